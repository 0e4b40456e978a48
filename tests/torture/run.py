"""One torture: a store, a bad way to it, targets that come and go, an agent that is killed again and again; at the end the referee.

Law: the harness ends only what it started. What it does to a disk is what a power cut may do: bytes after the last that the disk has
said to have (fdatasync) may be cut, zeroed or garbage; those before are whole.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import yaml

from tests.receiver import free_port, prometheus, victoria_metrics
from tests.torture import referee
from tests.torture.referee import Kill
from tests.torture.speed import World
from tests.torture.way import LIVING, TOKEN, Asked, Way

ROOT = Path(__file__).parents[2]
SITE = "torture"
DISK = "8m"
WRONG = (0.0, 0.0, 0.0, 0.0, 0.0, 1.7, -1.7, 30.0, -30.0, 5000.0, -86400.0, 3 * 365 * 86400.0, -3 * 365 * 86400.0)
Fault = Callable[[], Coroutine[Any, Any, str]]


class Torture:
    def __init__(self, home: Path, dice: random.Random, store: str, speed: float, faults: int, *, quiet: bool = False) -> None:
        self.home, self.dice, self.store_name, self.speed, self.faults, self.quiet = home, dice, store, speed, faults, quiet
        self.damage = random.Random(dice.random())  # of its own: how often it is asked depends on the agent
        self.disk = home / "disk"
        self.start_at = time.time() - faults * 4.0 * speed - 360 * speed
        self.world = World(home / "world", speed, self.start_at)
        self.kills: list[Kill] = []
        self.done: Counter[str] = Counter()
        self.mounted = False
        self._agent: subprocess.Popen[bytes] | None = None
        self._stood_still = 0.0  # true time until which it may hold older rows than usual
        self._written = 0
        self._targets: list[asyncio.Server] = []
        self._healthy = True

    # -- the scene ----------------------------------------------------------------------------------------------------

    async def run(self) -> dict:
        self._mount()
        running = prometheus if self.store_name == "prometheus" else victoria_metrics
        options = {"out_of_order": "3650d"} if self.store_name == "prometheus" else {}
        try:
            with running(self.home, **options) as store:
                self.store = store
                self.way = Way(self.world, store.port, random.Random(self.dice.random()))
                self.way.took = self._took
                await self.way.set("open")
                await self._aim()
                self._start()
                await self._begun()
                began = time.monotonic()
                await self._torment()
                result = await self._end(time.monotonic() - began)
                await self.way.close()
                return result
        finally:
            if self._agent and self._agent.poll() is None:
                self._agent.kill()
                self._agent.wait()
            for server in self._targets:
                server.close()
            if self.mounted:
                subprocess.run(["umount", "-l", str(self.disk)], check=True)

    def _mount(self) -> None:
        self.disk.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(self.disk)]
            self.mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0

    async def _aim(self) -> None:
        """Targets on loopback: a port that comes and goes, a server that is well and ill."""
        self.flapping = free_port()
        self._flap: asyncio.Server | None = None
        web = await asyncio.start_server(self._web, "127.0.0.1", 0)
        self._targets.append(web)
        self.token = self.home / "token"
        self.token.write_text(TOKEN)
        self.token.chmod(0o600)
        self.listen = f"127.0.0.1:{free_port()}"
        http = web.sockets[0].getsockname()[1]
        config = {
            "site": SITE,
            "web": {"listen": self.listen},
            "push": {"url": f"http://127.0.0.1:{self.way.port}", "token_file": str(self.token)},
            "collectors": {
                "icmp": [{"target": "127.0.0.1", "interval": "5s"}],
                "tcp": [{"target": f"127.0.0.1:{self.flapping}", "interval": "5s"}, {"target": f"127.0.0.1:{http}", "interval": "15s"}],
                "http": [{"target": f"http://127.0.0.1:{http}/", "interval": "5s"}],
                "host": [{"interval": "15s"}],
            },
        }
        (self.home / "agent.yaml").write_text(yaml.safe_dump(config))

    async def _web(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            said = b"200 OK" if self._healthy else b"503 X"
            writer.write(b"HTTP/1.1 " + said + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    def _took(self, asked: Asked) -> None:
        """Keeps what the store has answered for: what it then has no longer, it has lost itself."""
        with (self.home / "taken").open("ab") as taken:
            taken.write(len(asked.body).to_bytes(4, "little") + asked.body)

    # -- the agent ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.torture.agent", str(self.home)]
        with (self.home / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)

    async def _begun(self) -> None:
        """Waits until the first agent has a buffer."""
        for _ in range(3000):
            assert self._agent
            assert self._agent.poll() is None, (self.home / "agent.log").read_text()[-2000:]
            if (self.disk / "buffer/ledger.json").exists():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the agent does not begin")

    async def _gone(self, what: str, seconds: float = 30.0) -> None:
        """Waits for the end of the agent, and writes down what it cost."""
        assert self._agent
        deadline = time.monotonic() + seconds
        while self._agent.poll() is None:
            assert time.monotonic() < deadline, f"the agent does not end ({what}); log: {self.home}/agent.log"
            await asyncio.sleep(0.01)
        counted = self._promised()
        now = self.world.now() * 1000
        self.kills.append(Kill(int(now), counted, int(max(0.0, self._stood_still * 1000 - now + 60_000)), what))
        self.world.set(tear=0.0)

    def _promised(self) -> int:
        """What the next start will put to "power_cut": by the ledger's file, where this run has written it."""
        with contextlib.suppress(OSError):
            written = (self.disk / "buffer/ledger.json").stat().st_mtime_ns
            if written == self._written:
                return 0
            self._written = written
        held = self._ledger()
        return 0 if held.get("ended", True) else int(held["at_risk"])

    def _ledger(self) -> dict:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.disk / "buffer/ledger.json").read_text())
        return {}

    async def _kill(self, what: str = "kill") -> None:
        assert self._agent
        self._agent.kill()
        await self._gone(what)

    def _held_up(self, seconds: float) -> None:
        self._stood_still = max(self._stood_still, self.world.now()) + seconds

    # -- faults -------------------------------------------------------------------------------------------------------

    async def _torment(self) -> None:
        for n in range(self.faults):
            await asyncio.sleep(self.dice.uniform(1, 12) / self.speed)
            await self._flip()
            name, fault = self.dice.choices(self._table(), weights=[w for _, w in self._weights()])[0]
            said = await fault()
            self.done[f"{name} {said}".strip()] += 1
            if not self.quiet and (n + 1) % 10 == 0:
                lost = sum(self._ledger().get("undelivered", {}).values())
                print(f"{n + 1}/{self.faults} faults, {len(self.kills)} ends, ledger {lost}", file=sys.stderr, flush=True)

    def _weights(self) -> list[tuple[str, int]]:
        return [("way", 10), ("cut", 6), ("kill", 4), ("power", 4), ("tear", 3), ("reboot", 2), ("term", 2), ("stop", 2), ("clock", 5),
                ("store", 1), ("token", 1), ("disk", 3 if self.mounted else 0)]  # fmt: skip

    def _table(self) -> list[tuple[str, Fault]]:
        return [(name, getattr(self, f"_do_{name}")) for name, _ in self._weights()]

    async def _flip(self) -> None:
        """What the collectors see changes."""
        if self.dice.random() < 0.5:
            self._healthy = not self._healthy
        if self.dice.random() < 0.5:
            if self._flap:
                self._flap.close()
                self._flap = None
            else:
                self._flap = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", self.flapping)

    def _while(self) -> float:
        """For how long, real seconds: mostly for some of the agent's, at times for more than a minute."""
        return self.dice.choice([3, 7, 10, 20, 40, 80]) * self.dice.uniform(0.7, 1.3) / self.speed

    async def _do_way(self) -> str:
        mode = self.dice.choice(LIVING)
        await self.way.set(mode)
        await asyncio.sleep(self._while())
        await self.way.set("open")
        return mode

    async def _do_cut(self) -> str:
        await self.way.set("cut")
        await asyncio.sleep(self._while())
        await self._within()
        await self.way.set("open")
        return ""

    async def _within(self) -> None:
        """A second fault, in the middle of a cut."""
        other = self.dice.choice([None, None, self._do_kill, self._do_power, self._do_tear, self._do_clock, self._do_term, self._do_reboot])
        if other:
            self.done[f"{other.__name__[4:]} in a cut"] += 1
            await other()
            await asyncio.sleep(self._while() / 2)

    async def _do_kill(self) -> str:
        await self._kill()
        self._start()
        return ""

    async def _do_term(self) -> str:
        assert self._agent
        self._agent.terminate()
        await self._gone("term")
        self._start()
        return ""

    async def _do_power(self) -> str:
        await self._kill("power")
        self._torn()
        self._start()
        return ""

    def _torn(self) -> None:
        """What a power cut does to files: behind what was synced anything may be."""
        sizes = referee.synced(self.home / "record")
        for path in self.disk.glob("buffer/*.seg"):
            size, kept = path.stat().st_size, sizes.get(str(path), 0)
            with path.open("r+b") as f:
                if size > kept and self.damage.random() < 0.7:
                    f.truncate(self.damage.randint(kept, size))
                f.seek(0, 2)
                f.write(self._rubbish())
        if self.damage.random() < 0.3:
            (self.disk / "buffer/ledger.new").write_bytes(b'{"version": 1')

    def _rubbish(self) -> bytes:
        noise = self.damage.randbytes(200)
        return self.damage.choice([b"", bytes(self.damage.randrange(4096)), noise, b"\xa5R" + noise[:50]])

    async def _do_tear(self) -> str:
        """It dies in the middle of a write to the buffer; where it writes nothing, from the outside."""
        self.world.set(tear=self.dice.uniform(0.01, 0.99))
        assert self._agent
        cut = self.way.mode == "open"
        if cut:
            await self.way.set("cut")
        for _ in range(int(8000 / self.speed)):
            if self._agent.poll() is not None:
                break
            await asyncio.sleep(0.01)
        else:
            self._agent.kill()
        await self._gone("tear")
        self._torn()
        self._start()
        if cut:
            await self.way.set("open")
        return ""

    async def _do_reboot(self) -> str:
        """A box without clock chip: another boot, its wall clock wherever it likes until somebody sets it."""
        await self._kill("reboot")
        self._torn()
        self.world.set(boot=self.dice.randbytes(16), boot_at=self.world.now() - self.dice.uniform(5, 60), off=self.dice.choice(WRONG))
        self._start()
        return ""

    async def _do_stop(self) -> str:
        assert self._agent
        self._agent.send_signal(signal.SIGSTOP)
        seconds = self._while() / 2
        await asyncio.sleep(seconds)
        self._agent.send_signal(signal.SIGCONT)
        self._held_up(seconds * self.speed)
        return ""

    async def _do_clock(self) -> str:
        self.world.set(off=self.dice.choice(WRONG))
        return ""

    async def _do_store(self) -> str:
        await asyncio.to_thread(self.store.stop)
        await asyncio.sleep(self._while() / 2)
        await asyncio.to_thread(self.store.start)
        return ""

    async def _do_token(self) -> str:
        how = self.dice.choice(["gone", "wrong", "empty"])
        if how == "gone":
            self.token.unlink()
        else:
            self.token.write_text("salah" if how == "wrong" else "")
        await asyncio.sleep(self._while())
        self.token.write_text(TOKEN)
        self.token.chmod(0o600)
        return how

    async def _do_disk(self) -> str:
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as f:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while f.write(bytes(size)):
                        pass
        began = self.world.now()
        mode = self.dice.choice(["open", "cut", "cut"])
        await self.way.set(mode)
        await asyncio.sleep(self._while())
        killed = self.dice.random() < 0.4
        self._held_up(self.world.now() - began)
        if killed:
            await self._kill("full disk")
        filler.unlink()
        if killed:
            self._start()
        await self.way.set("open")
        return f"full, {mode}{', killed' if killed else ''}"

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _end(self, took: float) -> dict:
        """All is well again: it drains, ends in good order, and the referee looks."""
        self.world.set(off=0.0)
        await self.way.set("open")
        assert self._agent
        drained = await self._drained()
        self._agent.terminate()
        await self._gone("end")
        self.kills.pop()
        await asyncio.sleep(2)  # VictoriaMetrics shows what it took after a second
        return await asyncio.to_thread(self._judged, took, drained)

    async def _drained(self) -> bool:
        """Waits until this run has told something, and neither memory nor disk holds anything that the centre has not."""
        for _ in range(600):
            with contextlib.suppress(OSError):
                said = (await asyncio.to_thread(self._metrics)).splitlines()
                held = [line for line in said if line.startswith(("ronda_push_pending_samples ", "ronda_buffer_records "))]
                told = any(line.startswith('ronda_push_samples_total{lane="live"} ') and float(line.split(" ")[1]) > 0 for line in said)
                if told and len(held) == 2 and all(float(line.split(" ")[1]) == 0 for line in held):
                    return True
            await asyncio.sleep(0.1)
        return False

    def _metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.listen}/metrics", timeout=10) as reply:
            return reply.read().decode()

    def _judged(self, took: float, drained: bool) -> dict:
        (self.home / "kills.json").write_text(json.dumps(self.kills))
        record = referee.read_record(self.home / "record")
        read = referee.from_prometheus if self.store_name == "prometheus" else referee.from_victoria
        there = read(self.store, SITE, self.start_at - 10 * 365 * 86400, self.world.now() + 10 * 365 * 86400)
        taken = referee.read_taken(self.home / "taken")
        held, counts = referee.from_buffer(self.disk / "buffer", SITE, self.world.boot)
        for head, points in held.items():
            there.setdefault(head, []).extend(points)
        if self.store_name != "prometheus":
            referee.coarsely(record, there)
            taken = {head: [(at, referee.coarse(bits)) for at, bits in points] for head, points in taken.items()}
        matched = referee.match(record.rows, there)
        gone = referee.taken_and_gone(matched.missing, taken, there)
        result = referee.judge(record, matched, self.kills, counts, gone)
        detail = result.pop("_")
        promised = sum(kill.counted for kill in self.kills)
        result["power_cut_not_as_promised"] = counts["power_cut"] - promised
        fine = drained and not any(result[key] for key in ("unexplained", "untold", "invented", "power_cut_not_as_promised"))
        if not fine:
            result["detail"] = detail
        return {
            "fine": fine, "store": self.store_name, "faults": sum(self.done.values()), "minutes": round(took / 60, 1),
            "hours_of_the_agent": round(took * self.speed / 3600, 2), "kinds": dict(sorted(self.done.items())),
            "ends": dict(Counter(k.what for k in self.kills)), "answers": dict(sorted(self.way.requests.items())), "drained": drained,
            **result,
        }  # fmt: skip
