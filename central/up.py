"""`ronda central up`: the whole centre on one machine, from one inventory file.

Law: the real programs, as children, on loopback unless told otherwise. Nothing that they would refuse ever reaches them: files are
rendered and checked beside those in force, then swapped. What can be refused is refused before anything starts (exit 2). A child that
dies ends all (exit 1, its last words shown); all end with us.

    DIR/rendered/     what `ronda central render` makes of the inventory: agents/, prometheus/, alertmanager/, grafana/
    DIR/prometheus/   DIR/alertmanager/   DIR/gateway/   DIR/grafana/      what the programs keep
    DIR/logs/         what they say
"""

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.secret import SecretError
from agent.structure import ConfigError, parse_duration, parse_listen
from central import programs
from central.programs import Child, Listens, Refused, url
from central.render import RenderError, render, write

if TYPE_CHECKING:
    from central.inventory import Inventory

FINE, FAILED, REFUSED = 0, 1, 2
INVENTORY = Path("inventory.yaml")
LAST_WORDS = 12  # lines of a dead child's log that are shown
TOLD_TO_STOP = 15.0  # seconds until a child that was asked to end is made to
TAKEN_UP = 30.0  # seconds until a reload must have shown in a program's own metrics

# What runs without an inventory: this machine is the one office, and the agent on it pushes, as those of a regency do: what it sees is told
# at once, and its events come too.
LAPTOP = """\
# The smallest inventory: this machine is the one office. Take it as a start; `ronda central check --inventory FILE` reads it.
centre: {{name: Ronda, url: "{url}"}}
sites:
  laptop:
    name: Laptop ini
    code: LAPTOP
    district: Contoh
    class: 24-jam
    uplinks: [{{isp: internet, medium: fibre}}]
isps: {{internet: {{name: Internet}}}}
"""


# -- the command ----------------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inventory", type=Path, metavar="FILE", help="default: ./inventory.yaml; without one, this machine is the one office"
    )
    parser.add_argument("--calendar", type=Path, metavar="FILE", help="default: calendar.yaml beside the inventory")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where all is kept (default: centre/ in the user's state directory)")
    parser.add_argument(
        "--retention", type=_retention, default="30d", metavar="TIME", help="how long Prometheus keeps samples (default 30d)"
    )
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="the gateway's: `site: sha256` a line; without it only this machine may push"
    )
    parser.add_argument("--no-grafana", action="store_true", help="leave Grafana out where it is installed")
    for field in dataclasses.fields(Listens):
        parser.add_argument(
            f"--{field.name}.listen", dest=f"{field.name}_listen", type=_listen, default=field.default, metavar="HOST:PORT",
            help=f"default {field.default}",
        )  # fmt: skip
    parser.set_defaults(command=up_command)


def _listen(text: str) -> str:
    try:
        return parse_listen(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not an address to listen on (try 127.0.0.1:9090)') from None


def _retention(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a time to keep (try 30d)') from None
    return text


def up_command(args: argparse.Namespace) -> int:
    """Runs until it is told to stop (0) or a child dies (1); 2 where nothing was started. ConfigError is the caller's to print."""
    code = REFUSED
    try:
        data = _data_directory(args.data_dir)
        paths = programs.find()
        with _alone(data):
            up = Up(args, data, paths)
            up.prepare()
            code = FAILED
            return asyncio.run(up.run())
    except (Refused, RenderError, SecretError) as e:
        say(str(e))
    except OSError as e:
        say(f"{e.filename or args.data_dir or 'ronda central up'}: {e.strerror or e}")
    return code


def say(text: str) -> None:
    """Tells the person at the terminal; a progress line there is overwritten."""
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def _data_directory(given: Path | None) -> Path:
    from agent.state import default_directory

    directory = (given or default_directory() / "centre").absolute()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("logs", "prometheus", "alertmanager"):
        (directory / name).mkdir(exist_ok=True)
    return directory


@contextlib.contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Two of us in one directory would write over each other; the kernel lets the lock go with the process, whatever ends it."""
    with (data / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Refused(f"{data} is in use by another `ronda central up` (pid {lock.read().strip() or 'unknown'})") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


# -- rendering and checking -----------------------------------------------------------------------------------------------------


def rehearsal(inventory: "Inventory", inbox: str, token: Path) -> "Inventory":
    """The same inventory with the inbox in place of Telegram, for every audience that has no channel: what goes nowhere is not seen."""
    from central.inbox import CHATS
    from central.inventory import Channel, Telegram

    token.write_text("0:inbox\n")
    token.chmod(0o600)
    chats: dict[Any, Channel] = {
        name: Channel(telegram=Telegram(chat_id=chat, token_file=str(token), api_url=inbox)) for name, chat in CHATS.items()
    }
    return dataclasses.replace(inventory, channels={**chats, **inventory.channels})


def refuse_unfit(files: Mapping[str, str], beside: Path, paths: Mapping[str, str], write: Callable[[Mapping[str, str], Path], Any]) -> None:
    """Has promtool and amtool read a rendered tree in a place of its own. Raises Refused with what they say."""
    shutil.rmtree(beside, ignore_errors=True)
    try:
        write(files, beside)
        checks = {
            "promtool": [paths["promtool"], "check", "config", f"{beside}/prometheus/prometheus.yml"],
            "amtool": [paths["amtool"], "check-config", f"{beside}/alertmanager/alertmanager.yml"],
        }
        for name, command in checks.items():
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603  (from the PATH, no shell)
            if done.returncode:
                raise Refused(
                    f"{name} refuses what was rendered; this is a fault of Ronda, please report it:\n{done.stdout}{done.stderr}".rstrip()
                )
    finally:
        shutil.rmtree(beside, ignore_errors=True)


class Running:
    """A child that was started, and its log."""

    def __init__(self, child: Child, process: asyncio.subprocess.Process, log: Path) -> None:
        self.child, self.process, self.log = child, process, log

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def last_words(self) -> str:
        """How it ended, and the end of its log."""
        code = self.process.returncode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_WORDS:]
        return f"{self.child.title} {how}. The end of {self.log}:\n" + "\n".join(f"  {line[:300]}" for line in lines)


class Up:
    """One run: `prepare` (nothing runs yet), then `run`."""

    def __init__(self, args: argparse.Namespace, data: Path, paths: Mapping[str, str]) -> None:
        self.args, self.data, self.paths = args, data, paths
        self.listens = Listens(**{f.name: getattr(args, f"{f.name}_listen") for f in dataclasses.fields(Listens)})
        self.grafana = None if args.no_grafana else programs.find_grafana()
        self.rendered = data / "rendered"
        self.running: list[Running] = []
        self.files: dict[str, str] = {}
        self.with_inbox, self.zone = False, "Asia/Jakarta"
        self.here = ""  # the site whose agent is on this machine
        self.elsewhere = ""  # on this machine, but not our gateway: where its agents push to
        self.words: asyncio.Queue[str] = asyncio.Queue()
        self.stopping = False
        self.terminal = sys.stderr.isatty()
        self.told: set[asyncio.Task[None]] = set()

    # -- files

    @property
    def inventory(self) -> Path:
        """The file given, or ./inventory.yaml, or the built-in one, written where it can be read and taken as a start."""
        if given := self.args.inventory or (INVENTORY if INVENTORY.exists() else None):
            return Path(given)
        laptop = self.data / "laptop.yaml"
        if not laptop.exists():
            laptop.write_text(LAPTOP.format(url=url(self.listens.gateway, "")))
        return laptop

    def render(self) -> dict[str, str]:
        """The rendered tree, checked. Raises ConfigError (the inventory) or Refused (what became of it)."""
        from central.inventory import load

        inventory = load(self.inventory, self.args.calendar)
        for warning in inventory.warnings:
            if "ops" in inventory.channels or "channels." not in warning:  # else the inbox stands in
                say(f"warning: {warning}")
        self.zone, self.with_inbox = inventory.centre.timezone, "ops" not in inventory.channels
        if self.with_inbox:
            inventory = rehearsal(inventory, url(self.listens.inbox, ""), self.data / "inbox-token")
        self.here = _here(inventory)
        self.elsewhere = _elsewhere(inventory, url(self.listens.gateway, ""))
        files = render(inventory, self._target())
        refuse_unfit(files, self.data / "new", self.paths, write)
        return files

    def _target(self) -> Any:
        from central.target import detect

        return dataclasses.replace(
            detect(),
            prometheus_address=_reached(self.listens.prometheus),
            gateway_address=_reached(self.listens.gateway),
            alertmanager_address=_reached(self.listens.alertmanager),
            runbooks=url(self.listens.inbox, "/runbook") if self.with_inbox else "",
        )

    def prepare(self) -> None:
        """Everything that can be refused before anything is started."""
        if not self.args.tokens and not _loopback(self.listens.gateway):
            raise Refused(
                f"--gateway.listen {self.listens.gateway}: without --tokens anybody could push in a site's name; only 127.0.0.1 then"
            )
        self.files = self.render()
        programs.refuse_busy({c.name: getattr(self.listens, c.name) for c in self.children()})
        write(self.files, self.rendered)

    # -- children

    def children(self) -> list[Child]:
        """What is to run, in the order of starting: who is told comes before who tells."""
        found = [programs.inbox(self.listens.inbox, self.zone)] if self.with_inbox else []
        found += [
            programs.alertmanager(self.paths["alertmanager"], self.rendered, self.data / "alertmanager", self.listens.alertmanager),
            programs.prometheus(
                self.paths["prometheus"], self.rendered, self.data / "prometheus", self.listens.prometheus, self.args.retention
            ),
            programs.gateway(self.data / "gateway", self.listens.gateway, url(self.listens.prometheus, ""), self.args.tokens),
        ]
        if self.grafana:
            (self.data / "grafana").mkdir(exist_ok=True)
            home = self.data / "grafana"
            found.append(programs.grafana(*self.grafana, self.rendered, home, self.listens.grafana, url(self.listens.prometheus)))
        return found

    async def run(self) -> int:
        """Starts all, says where they are, watches; ends all in every case."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self.words.put_nowait, "reload")
        try:
            for child in self.children():
                await self._start(child)
                if self.stopping:
                    return FINE
            self._tell()
            return await self._watch()
        finally:
            await self._end()

    def _stop(self) -> None:
        self.stopping = True
        self.words.put_nowait("stop")

    async def _start(self, child: Child) -> None:
        """Starts a child and waits until it works, however long it reads its own past. Raises Refused when it dies."""
        log = self.data / "logs" / f"{child.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *_dying_with_us(), *child.command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, **child.env}, start_new_session=True,  # Ctrl-C is for us; we end them in order
            )  # fmt: skip
        running = Running(child, process, log)
        self.running.append(running)
        began = time.monotonic()
        while not self.stopping and not await asyncio.to_thread(_answers, child.ready):
            if not running.alive:
                raise Refused(running.last_words())
            _progress(f"{child.title} is starting … {time.monotonic() - began:.0f} s")
            await asyncio.sleep(0.1)
        if not self.stopping:
            say(f"  {child.title:<13} is ready  ({time.monotonic() - began:.1f} s)")
        watcher = asyncio.create_task(self._told_of_its_end(running))
        self.told.add(watcher)
        watcher.add_done_callback(self.told.discard)

    async def _told_of_its_end(self, running: Running) -> None:
        await running.process.wait()
        self.words.put_nowait("died")

    async def _watch(self) -> int:
        """Until it is told to stop, or a child has died."""
        while (word := await self.words.get()) != "stop":
            if word == "reload" and self.terminal and not sys.stderr.isatty():
                return FINE  # the terminal was closed: that is a SIGHUP as well
            if word == "reload":
                await self._reload()
            elif dead := [r for r in self.running if not r.alive]:
                say("\n".join(r.last_words() for r in dead))
                return FAILED
        say("Stopping …")
        return FINE

    async def _end(self) -> None:
        """Asks all to end, who tells before who is told; makes those that don't."""
        for running in reversed(self.running):
            with contextlib.suppress(ProcessLookupError):
                running.process.terminate()
            try:
                await asyncio.wait_for(running.process.wait(), TOLD_TO_STOP)
            except TimeoutError:
                say(f"{running.child.title} does not end; it is killed")
                running.process.kill()
                await running.process.wait()

    # -- reload

    async def _reload(self) -> None:
        """Renders again. Whatever is wrong, all stays as it was, and is said."""
        try:
            files = await asyncio.to_thread(self.render)
            changed = sorted(p for p in files.keys() | self.files.keys() if files.get(p) != self.files.get(p))
            await self._swap(files)
        except (ConfigError, Refused, RenderError, SecretError, OSError) as e:
            say(f"nothing was changed:\n{e}")
            return
        say(f"reloaded {self.inventory}: {_count(len(changed), 'file')} changed" + "".join(f"\n  {p}" for p in changed[:20]))

    async def _swap(self, files: dict[str, str]) -> None:
        """Puts the files in force. A program that refuses them gets the old ones back. Raises Refused."""
        before, self.files = self.files, files
        write(files, self.rendered)
        refused = [r.child.title for r in self.running if r.child.name in RELOADED and not await self._taken_up(r)]
        if refused:
            write(before, self.rendered)
            self.files = before
            for running in self.running:
                if running.child.name in RELOADED:
                    await self._taken_up(running)
            raise Refused(f"{' and '.join(refused)} did not take the new files (see {self.data}/logs)")

    async def _taken_up(self, running: Running) -> bool:
        """SIGHUP, and what the program's own metrics say of it."""
        metric = RELOADED[running.child.name]
        page = running.child.page + "metrics"
        before = _value(await asyncio.to_thread(_get, page), f"{metric}_success_timestamp_seconds")
        with contextlib.suppress(ProcessLookupError):
            running.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + TAKEN_UP
        while time.monotonic() < end and running.alive:
            text = await asyncio.to_thread(_get, page)
            if _value(text, f"{metric}_successful") == 0:
                return False
            if _value(text, f"{metric}_success_timestamp_seconds") > before:
                return True
            await asyncio.sleep(0.2)
        return False

    # -- what is said

    def _tell(self) -> None:
        lines = [f"The centre runs on {self.inventory}.", ""]
        lines += [f"  {r.child.title:<13} {r.child.page}" for r in self.running]
        if not self.grafana:
            lines.append("  Grafana       is not installed (https://grafana.com/grafana/download); dashboards are rendered all the same")
        lines += [
            f"  offices       {_ronda()} central status --prometheus {url(self.listens.prometheus, '')}",
            f"  events        {_ronda()} central events" + (f" --data-dir {self.data}" if self.args.data_dir else ""),
            f"  rendered      {self.rendered}",
            "",
            *self._next_step(),
            f"The inventory has changed: kill -HUP {os.getpid()}. Ctrl-C ends all.",
        ]
        say("\n".join(lines))
        if self.elsewhere:
            say(f"warning: agents are told to push to {self.elsewhere}, but the gateway is {url(self.listens.gateway, '')}: set centre.url")
        for name in ("prometheus", "alertmanager", "inbox"):
            if not _loopback(listen := getattr(self.listens, name)):
                say(f"warning: {name} listens on {listen}: who reaches it reads all and may write: put a proxy with TLS in front")
        if not _loopback(self.listens.gateway):
            say(f"warning: the gateway listens on {self.listens.gateway} without TLS: tokens can be read on the way; put a proxy in front")

    def _next_step(self) -> list[str]:
        agents = sorted(p for p in self.files if p.startswith("agents/"))
        if not agents:
            return ["Next: add a site to the inventory."]
        if here := f"agents/{self.here}.yaml" if self.here else "":
            return [f"Next: run the agent beside it:  {_ronda()} run --config {self.rendered / here}"]
        return [f"Next: put an office's file on its box as /etc/ronda/agent.yaml:  {self.rendered}/agents/"]


# The metrics in which a program tells of its last reload.
RELOADED = {"prometheus": "prometheus_config_last_reload", "alertmanager": "alertmanager_config_last_reload"}


def _ronda() -> str:
    """What to type: in a clone the command is not on the PATH."""
    ours = Path(sys.prefix, "bin/ronda")
    if shutil.which("ronda") or not ours.exists():
        return "ronda"
    return str(ours.relative_to(Path.cwd())) if ours.is_relative_to(Path.cwd()) else str(ours)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _reached(listen: str) -> str:
    """HOST:PORT as the programs reach each other."""
    return url(listen, "").removeprefix("http://")


def _here(inventory: "Inventory") -> str:
    """The site whose agent is on this machine: fetched from loopback, or pushing there."""
    pushes = _on_loopback(inventory.centre.url)
    sites = inventory.active().items()
    return next((slug for slug, s in sites if (_loopback(s.address) if s.delivery == "pull" else pushes)), "")


def _elsewhere(inventory: "Inventory", gateway: str) -> str:
    """Where agents on this machine push to, where that is not the gateway that is started here."""
    told = inventory.centre.url
    return told if _on_loopback(told) and urlsplit(told).port != urlsplit(gateway).port else ""


def _on_loopback(address: str) -> bool:
    return _loopback(f"{urlsplit(address).hostname or ''}:0")


def _loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _dying_with_us() -> tuple[str, ...]:
    """A kill -9 of us is a SIGTERM to them (prctl(2), PR_SET_PDEATHSIG); setpriv is util-linux, on every Debian."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM") if setpriv else ()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _get(address: str) -> str:
    """The body; empty where there is no answer, or not 2xx."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    try:
        with opener.open(address, timeout=5) as answer:
            return bytes(answer.read()).decode(errors="replace") or " "
    except urllib.error.HTTPError as e:
        e.close()
        return ""
    except OSError:
        return ""


def _answers(address: str) -> bool:
    return bool(_get(address))


def _value(exposition: str, name: str) -> float:
    """A metric without labels; -inf where it is not there."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", exposition, re.MULTILINE)
    return float(found[1]) if found else -math.inf
