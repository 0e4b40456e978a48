"""From a detector's event on a real box, over a real gateway, to a bundle that the centre has proven; and a disk that was put back."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request

from agent import decisions
from agent.cli import main
from agent.decisions import Decision
from agent.detect.casebook import Casebook, Ids
from agent.detect.model import Finding, Rule
from tests.central.test_gateway import ROOT, agent, happen, pushing, real_gateway, until, waits
from tests.receiver import Receiver

MAC, IP = "3c:52:82:14:7a:01", "192.168.10.66"
SWEEP = Rule("arp_sweep", "L10", "1", "network", ("T1018",), quiet=60.0)


def found():
    """The event of a finding, as the casebook tells it."""
    book = Casebook([SWEEP], "DKC", "Asia/Jakarta", ids=Ids())
    fields = {"source.mac": MAC, "source.ip": IP, "ronda.targets": "255"}
    book.take(
        Finding("arp_sweep", MAC, "medium", "likely", "many addresses are asked for", confirmed=True, fields=fields), 1.0, time.time()
    )
    (outcome,) = book.drain()
    return outcome


def ronda(*words):
    return subprocess.run([sys.executable, "-m", "agent", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_an_incident_is_masked_anchored_exported_and_proven_and_who_puts_a_disk_back_is_found(tmp_path):
    data = tmp_path / "data"

    async def work(gateway):
        async with agent(tmp_path, pushing(gateway.url)) as app:
            outcome = found()
            app.tell(outcome.event)
            await until(lambda: app.events.journal.last >= 2 and not waits(app), "the centre has it")
        shutil.copytree(data, tmp_path / "backup")
        async with agent(tmp_path, pushing(gateway.url)) as app:
            happen(app, 5)
            await until(lambda: app.events.journal.last >= 5 and not waits(app), "and what came later")
        return outcome

    async def put_back(gateway):
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "backup", data)
        async with agent(tmp_path, pushing(gateway.url)) as app:
            happen(app, 7)
            await until(lambda: any(e["kind"] == "chain_mismatch" for e in gateway.events), lambda: gateway.events)

    async def both():
        async with Receiver(time.time).serving() as store:
            with real_gateway(tmp_path / "gateway", f"http://127.0.0.1:{store.port}") as gateway:
                outcome = await work(gateway)
                verified(gateway, outcome)
                await put_back(gateway)
                with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as metrics:
                    count = re.search(rb'ronda_gateway_chain_mismatches_total\{site="dukcapil"\} (\d+)', metrics.read())
                assert count
                assert int(count[1]) >= 1

    def verified(gateway, outcome):
        (said,) = [event for event in gateway.events if event["kind"] == "arp_sweep"]
        assert MAC not in json.dumps(said)
        assert IP not in json.dumps(said)
        assert said["fields"]["source.mac"].startswith("P-")
        assert said["fields"]["source.mac_oui"] == MAC[:8]
        run = ronda("events", "export", outcome.id, "--data-dir", str(data), "-o", str(tmp_path / "bundle"))
        assert run.returncode == 0, run.stderr
        run = ronda("central", "verify", str(tmp_path / "bundle"), "--data-dir", str(tmp_path / "gateway"))
        assert run.returncode == 0, run.stdout + run.stderr
        assert "TERBUKTI: 1 baris" in run.stdout
        assert "dukcapil" in run.stdout
        assert main(["events", "verify", "--data-dir", str(data)]) == 0

    asyncio.run(both())


def test_a_running_agent_journals_what_people_decide(tmp_path):
    async def work():
        async with Receiver(time.time).serving() as store, agent(tmp_path, pushing(f"http://127.0.0.1:{store.port}")) as app:
            decisions.add(tmp_path / "data", Decision(0, time.time(), "unmask", "P-0123456789AB", "Budi", "laporan pegawai"))
            await app._tidy()
            await app._tidy()
            found = [e for e in app.events.journal.after(0, 1 << 20) if e.event.kind == "identity_unmasked"]
            assert [(e.event.fields["person"], e.event.fields["subject"], e.event.count) for e in found] == [("Budi", "P-0123456789AB", 1)]

    asyncio.run(work())
