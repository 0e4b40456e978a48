"""`ronda central …`: the inventory checked, imported, rendered and run.

Law: exit 0 fine, 1 a check failed, 2 usage or a bad file. Each command is a module's own; imports happen where they are needed.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FINE, FAILED, USAGE = 0, 1, 2
INVENTORY = Path("inventory.yaml")
BEGIN = (
    "name one (--inventory FILE), make one of a spreadsheet (ronda central import FILE.csv), or copy Ronda's config/inventory.example.yaml"
)


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code. ConfigError is the caller's to print."""
    args = _parser(argv).parse_args(argv)
    if getattr(args, "inventory", None) == INVENTORY and not INVENTORY.exists():
        return _fail(f"there is no {INVENTORY} here: {BEGIN}")
    return int(args.command(args))


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ronda central", description="One inventory file renders the whole centre.")
    sub = parser.add_subparsers(required=True, metavar="COMMAND")

    check = sub.add_parser("check", help="check an inventory and say everything that is wrong with it")
    _add_inventory(check)
    check.set_defaults(command=_later("central.inventory", "check_command"))

    imported = sub.add_parser("import", help="make an inventory of a spreadsheet saved as CSV")
    imported.add_argument("file", type=Path, metavar="FILE.csv")
    imported.add_argument("--out", type=Path, metavar="FILE", help="default: to the terminal")
    imported.set_defaults(command=_later("central.importer", "import_command"))

    schema = sub.add_parser("schema", help="the inventory's JSON schema, for editors")
    schema.add_argument("--calendar", action="store_true", help="the calendar's instead")
    schema.set_defaults(command=_later("central.jsonschema", "schema_command"))

    render = sub.add_parser("render", help="write the files of agents, Prometheus, Alertmanager and Grafana")
    _add_inventory(render)
    render.add_argument("--out", type=Path, required=True, metavar="DIR")
    render.add_argument("--prometheus", type=_version, metavar="VERSION", help="that will read the files (default: the one installed)")
    render.add_argument("--alertmanager", type=_version, metavar="VERSION", help="likewise")
    render.add_argument("--diff", action="store_true", help="write nothing, show what would change; exit 1 when something would")
    render.set_defaults(command=_render)

    up = sub.add_parser("up", help="run the whole centre on this machine: Prometheus, Alertmanager, gateway, Grafana")
    if argv[:1] == ["up"]:  # its options are its own
        from central.up import add_arguments

        add_arguments(up)
    _add_gateway(sub, argv)
    return parser


def _add_gateway(sub: Any, argv: Sequence[str]) -> None:
    gateway = sub.add_parser("gateway", help="where sites push to: samples go on to the store, events are kept")
    if argv[:1] == ["gateway"]:
        from central.gateway import add_arguments as add_gateways

        add_gateways(gateway)
    gateway.set_defaults(command=_later("central.gateway", "gateway_command"))

    token = sub.add_parser("token", help="make the token by which the gateway knows a site; it is shown once")
    token.add_argument("site", metavar="SITE", help="as in the inventory")
    token.add_argument("--tokens", type=Path, default=Path("/etc/ronda/tokens"), metavar="FILE", help="the gateway's; default %(default)s")
    token.set_defaults(command=_later("central.tokens", "token_command"))

    status = sub.add_parser("status", help="every office's state, the worst first; exit 1 when one is in trouble")
    status.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL", help="default %(default)s")
    status.set_defaults(command=_later("central.status", "status_command"))

    draft = sub.add_parser("draft", help="draft the report of a security incident for the national CSIRT (Indonesian)")
    draft.add_argument("id", metavar="ID", help="as its message says it, e.g. DKC-1124-0915")
    _add_inventory(draft)
    draft.add_argument("--data-dir", type=Path, metavar="DIR", help="the gateway's, or that of `ronda central up`")
    draft.set_defaults(command=_later("central.draft", "draft_command"))

    events = sub.add_parser("events", help="what all sites have told: link down, incident, box off")
    events.add_argument("--site", metavar="SITE")
    events.add_argument("--since", type=_duration, metavar="1h", help="how far back they happened; default: all")
    events.add_argument("--kind", metavar="KIND", help="this kind only, e.g. incident_opened")
    events.add_argument("--severity", choices=("critical", "warning", "info"), help="this severity and what is graver")
    events.add_argument("--json", action="store_true", help="one JSON object a line")
    events.add_argument("--data-dir", type=Path, metavar="DIR", help="the gateway's, or that of `ronda central up`")
    events.set_defaults(command=_later("central.gateway", "events_command"))

    verify = sub.add_parser("verify", help="what a bundle of `ronda events export` proves; exit 1 where it does not")
    if argv[:1] == ["verify"]:
        from central.verify import add_arguments

        add_arguments(verify)
    verify.set_defaults(command=_later("central.verify", "verify_command"))


def _duration(text: str) -> float:
    from agent.structure import parse_duration

    try:
        return parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a duration (try 1h)') from None


def _add_inventory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--inventory", type=Path, default=INVENTORY, metavar="FILE", help="default: inventory.yaml")
    parser.add_argument("--calendar", type=Path, metavar="FILE", help="default: calendar.yaml beside the inventory, if it is there")


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A command that is imported when it runs."""

    def run(args: argparse.Namespace) -> int:
        import importlib

        command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), name)
        return command(args)

    return run


def _version(text: str) -> tuple[int, int]:
    from central.target import parse_version

    try:
        return parse_version(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _render(args: argparse.Namespace) -> int:
    from agent.secret import SecretError
    from central.inventory import load
    from central.render import RenderError, diff, render, write
    from central.target import detect

    _progress(f"reading {args.inventory} …")
    inventory = load(args.inventory, args.calendar)
    _progress(f"rendering {len(inventory.sites)} sites …")
    target = _for_versions(detect(), args)
    try:
        files = render(inventory, target)
        text = diff(files, args.out) if args.diff else ""
        changed = [] if args.diff else write(files, args.out)
    except (RenderError, SecretError) as e:
        return _fail(str(e))
    except OSError as e:
        return _fail(f"{e.filename or args.out}: {e.strerror}")
    _progress("")
    for warning in inventory.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if args.diff:
        print(text or f"nothing would change in {args.out}")
        return FAILED if text else FINE
    versions = f"Prometheus {_shown(target.prometheus)}, Alertmanager {_shown(target.alertmanager)}"
    print(f"{args.out}: {len(files)} files for {len(inventory.sites)} sites, {len(changed)} of them changed; for {versions}")
    return FINE


def _for_versions(target: Any, args: argparse.Namespace) -> Any:
    given = {name: version for name in ("prometheus", "alertmanager") if (version := getattr(args, name))}
    return dataclasses.replace(target, **given)


def _shown(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _progress(text: str) -> None:
    """One line on a terminal, overwritten by the next; empty: cleared."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _fail(message: str) -> int:
    _progress("")
    print(f"ronda central: {message}", file=sys.stderr)
    return USAGE
