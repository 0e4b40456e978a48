"""The `ronda` command.

Law: exit 0 fine, 1 a check failed, 2 usage or config. Errors say what to do next; no traceback for what a person can mend.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent import __version__
from agent.collector import Env, Kind
from agent.structure import ConfigError, parse_duration, parse_listen

USAGE = 2
BESIDE = ("central",)  # commands of packages beside the agent


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and (beside := _beside(words[0])):
            return beside(words[1:])
        args = _parser(words).parse_args(words)
        return int(args.command(args))
    except ConfigError as e:
        print(e, file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # the reader (head, a pager) has gone: nothing left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _beside(word: str) -> Callable[[Sequence[str]], int] | None:
    """The command of another package, e.g. `central`: looked up by its entry point, and imported only when it is asked for."""
    if word not in BESIDE:
        return None
    import importlib.metadata

    found = importlib.metadata.entry_points(group="ronda.commands", name=word)
    if not found:
        raise SystemExit(_fail(f"`ronda {word}` is not installed here; run: make install"))
    command: Callable[[Sequence[str]], int] = next(iter(found)).load()
    return command


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ronda", description="Watches an office's network from inside.", epilog="At the centre: ronda central --help"
    )
    parser.add_argument("--version", action="version", version=f"ronda {__version__}")
    sub = parser.add_subparsers(required=True, metavar="COMMAND")

    run = sub.add_parser("run", help="watch; without a config: gateway, resolvers, internet, link and host")
    run.add_argument("--config", type=Path, metavar="FILE")
    run.add_argument("--data-dir", type=Path, metavar="DIR", help="where state is kept (default: the user's state directory)")
    run.add_argument("--web.listen-address", dest="listen", type=_listen, metavar="HOST:PORT", help="default 127.0.0.1:17663")
    run.add_argument("--web.config.file", dest="web_config", type=Path, metavar="FILE", help="TLS and passwords (exporter-toolkit format)")
    run.add_argument("--web.enable-lifecycle", dest="lifecycle", action="store_true", help="allow POST /-/reload")
    run.set_defaults(command=_run)

    check = sub.add_parser("check", help="check a config and say everything that is wrong with it")
    check.add_argument("--config", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    _once_parser(sub)

    collectors = sub.add_parser("collectors", help="what can be observed: a kind's manual, config and metrics")
    collectors.add_argument("kind", metavar="KIND", nargs="?")
    collectors.set_defaults(command=_collectors)

    _events_parser(sub, argv)
    _wire_parsers(sub)

    doctor = sub.add_parser("doctor", help="test this box in lines that can be read aloud on the phone")
    doctor.add_argument("--config", type=Path, metavar="FILE")
    doctor.add_argument("--data-dir", type=Path, metavar="DIR")
    doctor.add_argument("--lang", choices=("id", "en", "both"), default="both")
    doctor.set_defaults(command=_doctor)
    return parser


def _events_parser(sub: Any, argv: Sequence[str]) -> None:
    events = sub.add_parser("events", help="what happened here: link down, incident, box off; read from this box's journal")
    events.add_argument("--since", type=_duration, metavar="1h", help="how far back, e.g. 30m, 1h, 7d; default: all that is kept, 30 days")
    events.add_argument("--kind", metavar="KIND", help="this kind only, e.g. link_down")
    events.add_argument("--severity", choices=("critical", "warning", "info"), help="this severity and what is graver")
    events.add_argument("--json", action="store_true", help="one JSON object a line, fields under their ECS names")
    events.add_argument("--lang", choices=("id", "en"), default="id", help="of what findings and fields are called; default: id")
    events.add_argument("--follow", action="store_true", help="go on with what comes; Ctrl-C ends it")
    events.add_argument(
        "--config", type=Path, metavar="FILE", help="for the office's time zone; default: /etc/ronda/agent.yaml, else this machine's"
    )
    events.add_argument("--data-dir", type=Path, metavar="DIR")
    events.set_defaults(command=_events)
    if argv[:1] == ["events"]:  # what else can be done with them is in a file of its own
        from agent.eventcli import add_commands

        add_commands(events, _load)


def _once_parser(sub: Any) -> None:
    once = sub.add_parser("once", help="look once and show everything: ronda once http https://example.go.id/")
    once.add_argument("kind", metavar="KIND")
    once.add_argument("target", metavar="TARGET", nargs="?")
    once.add_argument("options", metavar="KEY=VALUE", nargs="*", help="as in the config, e.g. query=www.example.go.id")
    once.add_argument("--count", type=_count, help="icmp: packets to send")
    once.add_argument("--interval", type=_duration, help="icmp: time between packets, e.g. 50ms")
    once.add_argument("--timeout", help="e.g. 5s")
    once.add_argument("--source", help="an address or an interface to look from")
    asked = "snmp: as whom to ask, in v2c; others on this box see it in ps. Unseen, and for v3: credentials_file=FILE"
    once.add_argument("--community", metavar="WORD", help=asked)
    once.add_argument("--version", dest="snmp_version", choices=("1", "2c"), help="snmp: for devices that know version 1 only")
    once.add_argument("--json", action="store_true")
    once.set_defaults(command=_once)


def _wire_parsers(sub: Any) -> None:
    """`sub`: of argparse, which keeps its type to itself."""
    capture = sub.add_parser("capture", help="hand the agent the sockets that it sees the LAN with, on boxes without systemd; as root")
    capture.add_argument("--listen", required=True, metavar="PATH", help="the agent looks for /run/ronda/capture.sock")
    capture.add_argument("--group", metavar="GROUP", help="who may connect; default: this user only")
    capture.add_argument("--user", metavar="USER", help="what root becomes, with CAP_NET_RAW and nothing else; default nobody")
    capture.set_defaults(command=_capture)

    replay = sub.add_parser("replay", help="run the detectors over a capture or a log, and tell what they find as events")
    replay.add_argument("file", type=Path, metavar="FILE", help="pcap, pcapng, or a log (syslog, journalctl); also gzipped")
    replay.add_argument("--json", action="store_true", help="one JSON object a line, fields under their ECS names")
    replay.add_argument("--me", type=_address, metavar="ADDRESS", help="whose capture it is, e.g. 192.0.2.10 or 192.0.2.10/24")
    replay.add_argument("--gateway", type=_address, metavar="ADDRESS", help="the office's way out when it was made")
    replay.add_argument("--site-config", type=Path, metavar="FILE", help="an agent's config: its time zone, whom it vouches for")
    replay.set_defaults(command=_replay)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a duration (try 50ms)') from None


def _address(text: str) -> str:
    """An address, or one with the length of its network behind it."""
    import ipaddress

    try:
        return str(ipaddress.ip_interface(text)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not an address (try 192.0.2.1)') from None


def _listen(text: str) -> str:
    try:
        return parse_listen(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not an address to listen on (try 127.0.0.1:17663)') from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:10]) <= 1_000_000:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of packets (1 to 1000000)')
    return int(text)


def _load(path: Path) -> Any:
    from agent.config import load_config
    from collectors import KINDS

    return load_config(path, KINDS)


def _env() -> Env:
    from agent.clock import SystemClock
    from agent.net import Net

    return Env(SystemClock(), Net())


def _fail(message: str) -> int:
    print(f"ronda: {message}", file=sys.stderr)
    return USAGE


# -- run, check ---------------------------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    from agent import logs
    from agent.app import App, Options
    from agent.state import default_directory
    from collectors import KINDS

    logs.setup("info", "text")
    options = Options(args.config, args.data_dir, args.listen, args.web_config, args.lifecycle)

    async def work() -> None:
        app = App(KINDS, _env(), options, options.data_dir or default_directory())
        logs.setup(app.config.log.level, app.config.log.format)
        await app.run()

    try:
        asyncio.run(work())
    except OSError as e:
        return _fail(str(e))
    return 0


def _check(args: argparse.Namespace) -> int:
    from agent import budget
    from agent.config import discover, load_config, task_name
    from collectors import KINDS

    config = load_config(args.config, KINDS) if args.config else None
    if config is None or not any(True for _ in config.tasks()):
        env = _env()
        config = discover(KINDS, env.net.gateways(), env.net.resolvers(), config)
        print("no tasks are configured; this is what Ronda would watch here:")
    planned = budget.preview(config, _env().net)
    tasks, slower = list(config.tasks()), planned.intervals
    for kind, task in tasks:
        name = task_name(kind, task)
        longer = f", stretched to {slower[name]:g} s to fit what its uplink may carry" if name in slower else ""
        print(f"  {name}, every {task.interval:g} s{longer}")
    if config.push and planned.push != config.push.profile:
        print("  push tells only what metered tells: all would take more than a quarter of push.budget")
    if args.config:
        _warn_of_past(args.config, config.office.timezone)
    print(f"{args.config or 'ronda'}: fine, {len(tasks)} tasks for site {config.site}")
    return 0


def _warn_of_past(path: Path, timezone: str) -> None:
    """What does nothing any more is no error: the agent runs with it. But nobody should believe in it."""
    import zoneinfo

    from agent.stale import past_suppressions

    for problem in past_suppressions(path, zoneinfo.ZoneInfo(timezone)):
        print(f"peringatan (warning): {problem}", file=sys.stderr)


# -- once ---------------------------------------------------------------------------------------------------------------------


def _once(args: argparse.Namespace) -> int:
    from collectors import KINDS

    kind = KINDS.get(args.kind)
    if kind is None:
        return _fail(f"there is no kind {args.kind!r}; kinds: {', '.join(KINDS)}")
    if kind.name != "icmp" and (args.count or args.interval):
        return _fail(f"--count and --interval go with icmp; {kind.name} looks once")
    if kind.name != "snmp" and (args.community or args.snmp_version):
        return _fail(f"--community and --version go with snmp; {kind.name} knows none")
    config = _once_config(kind, args)
    from agent import show

    try:
        found = asyncio.run(_look(kind, config, args))
    except OSError as e:  # a file that the look needs, e.g. of credentials: it says which, and what is the matter with it
        return _fail(str(e))

    print(json.dumps(found, ensure_ascii=False, indent=2) if args.json else show.text(found))
    return 0 if found.get("ok", True) else 1


def _once_config(kind: Kind, args: argparse.Namespace) -> Any:
    """The kind's Config from TARGET and KEY=VALUE, read and checked as a file would be."""
    from agent.structure import loads

    options = list(args.options)
    lines = []
    if args.target and args.target.partition("=")[0] in kind.config.__dataclass_fields__ and "=" in args.target:
        options.insert(0, args.target)  # a kind without a target, or one that has a default
    elif args.target:
        lines.append(f"target: {json.dumps(args.target)}")
    for key in ("timeout", "source"):
        if value := getattr(args, key):
            lines.append(f"{key}: {json.dumps(value)}")
            if key == "timeout" and "interval" in {f.split("=")[0] for f in options} | {"interval"}:
                lines.append(f"interval: {json.dumps(_at_least(value, 15.0))}")
    if "senders" in kind.config.__dataclass_fields__ and not any(option.startswith("senders=") for option in options):
        options.append("senders={router: gateway}")  # most offices have this one; whoever else sends is shown as well
    for option in options:
        key, sep, value = option.partition("=")
        if not sep:
            raise SystemExit(_fail(f'"{option}" is not KEY=VALUE'))
        lines.append(f"{key}: {value}")
    return loads("\n".join(lines).encode(), kind.config, f"ronda once {kind.name}")


def _at_least(timeout: str, seconds: float) -> str:
    """An interval that a timeout fits into; a single look has no other use for it."""
    try:
        return f"{max(seconds, parse_duration(timeout)):g}s"
    except ValueError:
        return f"{seconds:g}s"


async def _look(kind: Kind, config: Any, args: argparse.Namespace) -> dict[str, Any]:
    env = _env()
    if kind.once is None:
        from agent.show import one_run

        return await one_run(kind, config, env)
    given = {k: v for k in ("count", "interval", "community") if (v := getattr(args, k)) is not None}
    if args.snmp_version:
        given["version"] = args.snmp_version
    if sys.stderr.isatty() and kind.name in ("icmp", "snmp"):
        given["progress"] = lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    try:
        found: dict[str, Any] = await kind.once(config, env, **given)
    finally:
        if "progress" in given:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    return found


# -- events -------------------------------------------------------------------------------------------------------------------


def _events(args: argparse.Namespace) -> int:
    from agent.eventcli import office_zone
    from agent.journal import Reader
    from agent.state import data_directory

    directory = (args.data_dir or data_directory()) / "journal"
    zone = office_zone(args, _load)
    try:
        return _print_events(Reader(directory), args, zone)
    except FileNotFoundError:
        return _fail(f"there is no journal in {directory}: name the data directory of the agent that runs here with --data-dir")
    except OSError as e:
        return _fail(f"{directory} can't be read: {e.strerror}; try it as root, or as the user that the agent runs as")


def _print_events(reader: Any, args: argparse.Namespace, zone: Any) -> int:
    import time

    from agent import show

    oldest = time.time() - args.since if args.since else 0.0
    last = shown = 0
    while True:
        for entry in reader.entries(last):
            last = entry.seq
            if entry.event.last_seen >= oldest and show.wanted(entry.event, args.kind, args.severity):
                if not args.json and not shown:
                    print(show.event_head(zone))
                shown += 1
                print(
                    show.event_json(reader.site, reader.journal, entry) if args.json else show.event_text(entry, zone, args.lang),
                    flush=args.follow,
                )
        if not args.follow:
            break
        time.sleep(1.0)
    if not shown:
        print("ronda: no such events are in the journal", file=sys.stderr)
    return 0


# -- replay -------------------------------------------------------------------------------------------------------------------


def _replay(args: argparse.Namespace) -> int:
    from agent import replay

    said = replay.Said(args.me or "", (args.gateway or "").partition("/")[0])
    if args.site_config:
        from agent.config import load_config
        from collectors import KINDS

        config = load_config(args.site_config, KINDS)
        vouched = [task.vouched() for _, task in config.tasks() if hasattr(task, "vouched")]  # the kind lan's
        said = said._replace(code=config.site, timezone=config.office.timezone, vouched=vouched[0] if vouched else said.vouched)
    return replay.run(args.file, said, as_json=args.json)


# -- capture ------------------------------------------------------------------------------------------------------------------


def _capture(args: argparse.Namespace) -> int:
    """Becomes the helper: what stays in memory with a capability is its few lines, and nothing of this command."""
    options = [f"--{name}={value}" for name in ("listen", "group", "user") if (value := getattr(args, name))]
    os.execv(sys.executable, [sys.executable, "-I", "-m", "agent.capture", *options])  # noqa: S606  (no shell is wanted)


# -- collectors, doctor -------------------------------------------------------------------------------------------------------


def _collectors(args: argparse.Namespace) -> int:
    from agent import show
    from collectors import KINDS

    if args.kind and args.kind not in KINDS:
        return _fail(f"there is no kind {args.kind!r}; kinds: {', '.join(KINDS)}")
    print(show.manual(KINDS[args.kind]) if args.kind else show.kinds(KINDS))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from agent import doctor
    from agent.config import load_config
    from agent.state import default_directory
    from collectors import KINDS

    problems: list[str] = []
    config = None
    if args.config:
        try:
            config = load_config(args.config, KINDS)
        except ConfigError as e:
            problems = [str(p) for p in e.problems]
    findings = asyncio.run(doctor.examine(_env(), config, args.data_dir or default_directory(), config_problems=problems))
    print(doctor.render(findings, args.lang, colour=sys.stdout.isatty()))
    return 1 if any(f.level == "bad" for f in findings) else 0
