"""The icmp kind: what a run says, what becomes of packets, and where the address comes from."""

import asyncio
import contextlib
import json
import socket
import statistics
import sys
import time

import pytest

from agent import ping
from agent.clock import SystemClock
from agent.collector import Env, Failure, Result
from agent.model import Sample
from agent.net import Net
from agent.structure import ConfigError, loads
from collectors import icmp
from collectors.icmp import Address, Config, IcmpCollector, Tally
from tests.bench import truth
from tests.fakes import FakeClock, settle
from tests.lab import delayline

NEAR = "10.77.1.2"


# -- config ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{target: a, size: 15}", "size"),
        ("{target: a, size: 1e3}", "size"),
        ("{target: a, size: 9000}", "try 56"),
        ("{target: a, timeout: 61s}", "must not be longer than 60s"),
        ("{target: a, interval: 1ms}", "must not be shorter than 0.01s"),
        ("{target: a, family: ipv5}", "not one of auto, ipv4, ipv6"),
        ("{target: a, family: ipv6, source: 192.0.2.1}", "not of the family ipv6"),
        ("{size: 56}", "target: is missing"),
    ],
)
def test_bad_configs(text, said):
    with pytest.raises(ConfigError, match=said):
        loads(text.encode(), Config, "agent.yaml")


def test_good_configs():
    config = loads(b"{target: gateway, timeout: 7s, source: wan2, size: 1400, family: ipv6}", Config, "agent.yaml")

    assert (config.interval, config.timeout, config.size) == (1.0, 7.0, 1400)  # a timeout above the interval is fine here
    assert config.identity() == "gateway@wan2/ipv6"
    assert config.address_family == socket.AF_INET6
    assert Config(target="a", source="fd77::1").address_family == socket.AF_INET6
    assert Config(target="a").identity() == "a"


# -- counters ------------------------------------------------------------------------------------------------------------------


def values(seen):
    return {s.metric.name + s.suffix + "".join(f"[{v}]" for v in s.labels): s.value for s in seen if isinstance(s, Sample)}


def test_jitter_is_smoothed_as_in_rfc_3550_and_only_where_there_are_two():
    tally = Tally()
    tally.answered(0.010, 64, late=False)
    assert "ronda_icmp_jitter_seconds" not in values(tally.samples())
    tally.answered(0.026, 63, late=False)
    tally.answered(0.026, 63, late=True)

    found = values(tally.samples())
    assert found["ronda_icmp_jitter_seconds"] == pytest.approx(0.001 * 15 / 16)
    assert found["ronda_icmp_reply_hop_limit"] == 63
    assert found["ronda_icmp_packets_late_total"] == 1
    assert (found["ronda_icmp_rtt_seconds_bucket[0.01]"], found["ronda_icmp_rtt_seconds_count"]) == (1, 3)


def test_the_buckets_are_the_design_s():
    assert [b * 1000 for b in icmp.RTT_BOUNDS] == pytest.approx([0.5, 1, 2, 5, 10, 20, 50, 100, 200, 350, 600, 1000, 2000, 5000])


# -- the address ---------------------------------------------------------------------------------------------------------------


class Names(Net):
    """Names as the test says; a Failure is raised, None never answers."""

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.asked = list(answers), 0

    async def resolve(self, host, family=socket.AF_UNSPEC):
        self.asked += 1
        answer = self.answers.pop(0)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


def address(target, *answers):
    clock, net = FakeClock(), Names(*answers)
    return Address(Env(clock, net), target, socket.AF_UNSPEC), clock, net


async def later(address, clock, seconds):
    """The address some time on; a look-up in the background is given its turn."""
    await clock.advance(seconds)
    await address.current(1)
    await settle()
    return await address.current(1)


def test_a_name_is_looked_up_again_every_minute_in_the_background():
    async def main():
        a, clock, net = address("www", ["192.0.2.1"], ["192.0.2.2"])
        assert await a.current(1) == "192.0.2.1"
        assert await later(a, clock, 59) == "192.0.2.1"
        assert net.asked == 1
        await clock.advance(2)
        assert await a.current(1) == "192.0.2.1"  # it doesn't wait
        await settle()
        assert await a.current(1) == "192.0.2.2"

    asyncio.run(main())


def test_a_dead_resolver_stops_nobody_who_has_an_address():
    async def main():
        a, clock, net = address("www", ["192.0.2.1"], Failure("resolve", "SERVFAIL"), None)
        assert await a.current(1) == "192.0.2.1"
        for _ in range(4):
            assert await later(a, clock, 61) == "192.0.2.1"
        assert net.asked == 3
        await a.close()

    asyncio.run(main())


def test_a_name_that_never_resolved_fails_and_is_tried_at_each_run():
    async def main():
        a, _, net = address("www", Failure("resolve", "NXDOMAIN"), Failure("send", "no socket"), None, ["192.0.2.1"])
        for reason in ("resolve", "send"):
            with pytest.raises(Failure) as caught:
                await a.current(1)
            assert caught.value.reason == reason
        with pytest.raises(Failure):
            await a.current(0.01)
        await a.close()
        assert net.asked == 3

    asyncio.run(main())


def test_a_name_with_many_addresses_keeps_the_one_in_use():
    async def main():
        a, clock, _ = address("www", ["192.0.2.1", "192.0.2.2"], ["192.0.2.2", "192.0.2.1"], ["192.0.2.2"])
        assert await a.current(1) == "192.0.2.1"
        assert await later(a, clock, 61) == "192.0.2.1"
        assert await later(a, clock, 61) == "192.0.2.2"

    asyncio.run(main())


def test_the_gateway_is_looked_at_every_5_s_and_an_address_once():
    async def main():
        a, clock, net = address("gateway", ["192.0.2.1"], ["192.0.2.254"])
        assert await a.current(1) == "192.0.2.1"
        assert await later(a, clock, 5) == "192.0.2.254"
        b, clock, net = address("192.0.2.9", ["192.0.2.9"])
        for _ in range(3):
            assert await later(b, clock, 1000) == "192.0.2.9"
        assert net.asked == 1

    asyncio.run(main())


def test_a_look_up_that_breaks_is_told_and_not_taken_for_a_name_that_is_not_there():
    async def main():
        a, _, _ = address("www", ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await a.current(1)

    asyncio.run(main())


# -- runs on a wire --------------------------------------------------------------------------------------------------------------


def wired(lab, ipv6=False, raw=False):
    a, b = lab.namespace("a", ipv6=ipv6), lab.namespace("b", ipv6=ipv6)
    lab.link(a, "eth0", "10.77.1.1/24", b, "eth0", f"{NEAR}/24")
    if ipv6:
        for ns, n in ((a, 1), (b, 2)):
            ns.ip("address", "add", f"fd77::{n}/64", "dev", "eth0", "nodad")
    a.sysctl(net__ipv4__ping_group_range="1 0" if raw else "0 2147483647")
    return a, b


def drop(ns, hook, which=""):
    """Has a machine drop echo requests: coming in, or of its own (the sender is told: EPERM)."""
    ns.run(
        "nft",
        f"add table ip t; add chain ip t c {{ type filter hook {hook} priority 0; }}; add rule ip t c icmp type echo-request {which} drop",
    )


def delayed(lab, *options):
    a, b = lab.namespace("a"), lab.namespace("b")
    delayline.start(lab, a, b, "10.77.6", *options, python=sys.executable)
    return a


@contextlib.asynccontextmanager
async def collecting(**config):
    collector = IcmpCollector(Config(**config), Env(SystemClock(), Net()))
    try:
        yield collector
    finally:
        await collector.close()


async def look(collector):
    """One run: its result, and the counters."""
    seen = list(await collector.collect())
    assert isinstance(seen[-1], Result)
    return seen[-1], collector.tally


def in_namespace(ns, main):
    with ns.entered():
        return asyncio.run(main())


@pytest.mark.parametrize(("interval", "timeout", "patience"), [(1.0, 5.0, 0.9), (0.2, 5.0, 0.18), (15.0, 5.0, 5.0), (1.0, 0.3, 0.3)])
def test_a_run_has_ended_when_the_next_is_due(interval, timeout, patience):
    assert icmp.Config(target="a", interval=interval, timeout=timeout).patience == pytest.approx(patience)


def once(ns, count=10, interval=0.01, **config):
    return in_namespace(ns, lambda: icmp.once(Config(**config), Env(SystemClock(), Net()), count=count, interval=interval))


@pytest.mark.lab
@pytest.mark.parametrize("raw", [False, True], ids=["ping socket", "raw socket"])
@pytest.mark.parametrize("target", [NEAR, "fd77::2"])
def test_a_target_that_answers(lab, raw, target):
    a, _ = wired(lab, ipv6=True, raw=raw)

    async def main():
        async with collecting(target=target) as collector:
            result, _ = await look(collector)
            seen = list(await collector.collect())
            return result, values(seen)

    result, found = in_namespace(a, main)
    assert result.reason == ""
    assert 0 < result.seconds < 1
    assert found["ronda_icmp_packets_sent_total"] == found["ronda_icmp_rtt_seconds_count"] == 2
    assert found["ronda_icmp_reply_hop_limit"] == 64
    assert {m.name for m in icmp.KIND.metrics} == {n.split("_bucket")[0].removesuffix("_sum").removesuffix("_count") for n in found} | {
        icmp.RTT.name
    }


@pytest.mark.lab
def test_once_tells_each_packet_and_loss_is_what_was_lost(lab):
    a, b = wired(lab)
    drop(b, "input", "numgen inc mod 5 == 2")

    found = once(a, count=20, target=NEAR, timeout=0.3)
    lost = [p["seq"] for p in found["packets"] if p["state"] == "lost"]
    assert lost == [2, 7, 12, 17]
    assert all((p["rtt_seconds"] is None) is (p["state"] == "lost") for p in found["packets"])
    assert (found["sent"], found["received"], found["lost"], found["loss_ratio"]) == (20, 16, 4, 0.2)
    assert found["ok"] is True
    assert found["rtt_seconds"]["min"] <= found["rtt_seconds"]["median"] <= found["rtt_seconds"]["p99"] <= found["rtt_seconds"]["max"]
    sent = [p["sent_at"] for p in found["packets"]]
    assert sent == sorted(sent)
    assert abs(sent[0] - time.time()) < 60
    json.dumps(found)


@pytest.mark.lab
def test_a_target_that_falls_silent_and_its_losses(lab, monkeypatch):
    monkeypatch.setattr(icmp, "LATE_WINDOW", 0.2)
    a, b = wired(lab)

    async def main():
        async with collecting(target=NEAR, timeout=0.2) as collector:
            first, tally = await look(collector)
            b.sysctl(net__ipv4__icmp_echo_ignore_all="1")
            down = [await look(collector) for _ in range(4)]
            lost = tally.lost
            b.sysctl(net__ipv4__icmp_echo_ignore_all="0")
            await asyncio.sleep(0.5)
            up, _ = await look(collector)
            return first, [r for r, _ in down], lost, up, tally, len(collector._flight)

    first, down, lost, up, tally, flying = in_namespace(a, main)
    assert (first.reason, up.reason) == ("", "")
    assert [r.reason for r in down] == ["timeout"] * 4
    assert "no answer from 10.77.1.2" in down[0].detail
    assert lost <= 2, "lost before its time was over"
    assert (tally.sent, tally.lost, tally.rtt.count, flying) == (6, 4, 2, 1)


@pytest.mark.lab
def test_late_is_not_lost(lab):
    a = delayed(lab, "--delay-ms", "250")

    found = once(a, count=5, interval=0.05, target="10.77.6.2", timeout=0.1)
    assert [p["state"] for p in found["packets"]] == ["late"] * 5
    assert (found["late"], found["lost"], found["received"]) == (5, 0, 5)
    assert found["rtt_seconds"]["min"] >= 0.25


@pytest.mark.lab
def test_a_link_slower_than_the_interval_is_slow_and_not_down(lab):
    a = delayed(lab, "--delay-ms", "1300")

    async def main():
        async with collecting(target="10.77.6.2", interval=1.0) as collector:
            results, began = [], time.monotonic()
            for n in range(5):
                await asyncio.sleep(max(0.0, began + n - time.monotonic()))
                results.append((await look(collector))[0])
            return results, collector.tally

    results, tally = in_namespace(a, main)
    assert [r.reason for r in results] == ["timeout", "", "", "", ""]
    assert all(r.seconds > 1.3 for r in results[1:])
    assert tally.lost == tally.late == 0


@pytest.mark.lab
def test_duplicates_are_counted_apart(lab):
    a = delayed(lab, "--delay-ms", "2", "--double-pct", "100")

    found = once(a, count=5, target="10.77.6.2")
    assert {p["state"] for p in found["packets"][:-1]} == {"duplicate"}
    assert (found["sent"], found["received"], found["lost"]) == (5, 5, 0)
    assert found["duplicates"] >= 4 * 3  # doubled on the way there and on the way back


@pytest.mark.lab
@pytest.mark.parametrize("raw", [False, True], ids=["ping socket", "raw socket"])
def test_what_a_router_says_ends_the_run(lab, raw):
    a, b = wired(lab, raw=raw)
    a.ip("route", "add", "default", "via", NEAR)
    b.sysctl(net__ipv4__ip_forward="1")
    b.ip("route", "add", "unreachable", "192.0.2.0/24")

    async def main():
        async with collecting(target="192.0.2.9", interval=30.0, timeout=20.0) as collector:
            return await look(collector)

    began = time.monotonic()
    result, tally = in_namespace(a, main)
    assert result.reason == "unreachable"
    assert result.detail == "192.0.2.9: host unreachable, says 10.77.1.2"
    assert (tally.sent, tally.send_errors) == (1, 0)
    assert time.monotonic() - began < 15, "it waited for the timeout"


@pytest.mark.lab
def test_our_own_trouble_is_not_the_target_s_loss(lab, monkeypatch):
    monkeypatch.setattr(icmp, "LATE_WINDOW", 0.0)
    a, _ = wired(lab)

    async def main():
        async with collecting(target=NEAR, timeout=0.1) as collector:
            drop(a, "output")
            forbidden, _ = await look(collector)
            a.run("nft", "delete", "table", "ip", "t")
            a.ip("link", "set", "eth0", "down")
            down, _ = await look(collector)
            a.ip("link", "set", "eth0", "up")
            await asyncio.sleep(0.3)
            up, tally = await look(collector)
            return forbidden, down, up, tally

    forbidden, down, up, tally = in_namespace(a, main)
    assert (forbidden.reason, down.reason, up.reason) == ("send", "unreachable", "")
    assert (tally.send_errors, tally.sent, tally.lost) == (2, 1, 0)
    assert once(a, count=2, target="198.51.100.1")["packets"][0]["state"] == "send_error"


@pytest.mark.lab
def test_a_source_that_is_not_there(lab):
    a, _ = wired(lab)

    found = once(a, count=2, target=NEAR, source="wan9")
    assert (found["ok"], found["reason"], found["send_errors"], found["sent"]) == (False, "send", 2, 0)
    assert "wan9" in found["detail"]
    assert found["loss_ratio"] is None


@pytest.mark.lab
@pytest.mark.parametrize("source", ["", "eth0"])
def test_a_link_local_target_on_an_interface_that_is_made_anew(lab, source):
    a, b = wired(lab, ipv6=True)

    def addresses():
        for ns, n in ((a, 1), (b, 2)):
            ns.ip("address", "add", f"fe80::{n}/64", "dev", "eth0", "nodad")

    async def main():
        async with collecting(target="fe80::2%eth0", source=source, timeout=3) as collector:
            addresses()
            before, _ = await look(collector)
            a.ip("link", "del", "eth0")
            gone, _ = await look(collector)
            lab.link(a, "spare", "10.77.1.9/24", b, "spare", "10.77.1.8/24")  # takes the old one's number
            lab.link(a, "eth0", "10.77.1.1/24", b, "eth0", f"{NEAR}/24")
            addresses()
            after, tally = await look(collector)
            return before, gone, after, tally

    before, gone, after, tally = in_namespace(a, main)
    assert (before.reason, after.reason) == ("", "")
    assert gone.reason in ("send", "unreachable")
    assert (tally.sent, tally.send_errors) == (2, 1)


@pytest.mark.lab
def test_gateway_and_names_that_are_not_there(lab):
    a, _ = wired(lab)

    assert once(a, count=1, target="gateway")["reason"] == "resolve"
    a.ip("route", "add", "default", "via", NEAR)
    assert once(a, count=1, target="gateway")["address"] == NEAR


@pytest.mark.lab
def test_what_came_while_the_loop_was_busy_counts(lab):
    a, _ = wired(lab)

    async def main():
        async with collecting(target=NEAR, timeout=0.2) as collector:
            asyncio.get_running_loop().call_soon(time.sleep, 0.5)  # the answer lies in the socket when the deadline is over
            return await look(collector)

    result, tally = in_namespace(a, main)
    assert result.reason == ""
    assert result.seconds < 0.1
    assert (tally.lost, tally.late) == (0, 0)


@pytest.mark.lab
def test_a_run_that_is_cancelled_leaves_nothing_behind(lab):
    a, b = wired(lab)
    b.sysctl(net__ipv4__icmp_echo_ignore_all="1")

    async def main():
        async with collecting(target=NEAR, timeout=5) as collector:
            run = asyncio.ensure_future(collector.collect())
            await asyncio.sleep(0.1)
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run
            b.sysctl(net__ipv4__icmp_echo_ignore_all="0")
            result, _ = await look(collector)
            line = collector._line
        return result, line

    result, line = in_namespace(a, main)
    assert result.reason == ""
    assert line._sock is None, "the last user's close closes the socket"


@pytest.mark.lab
def test_many_targets_one_socket(lab):
    a, b = wired(lab)
    b.ip("route", "add", "local", "10.78.0.0/16", "dev", "lo")
    a.ip("route", "add", "10.78.0.0/16", "via", NEAR)

    async def main():
        env = Env(SystemClock(), Net())
        all_of_them = [IcmpCollector(Config(target=f"10.78.0.{n}"), env) for n in range(1, 201)]
        results = [list(seen)[-1] for seen in await asyncio.gather(*(c.collect() for c in all_of_them))]
        lines = {id(c._line) for c in all_of_them}
        for collector in all_of_them:
            await collector.close()
        return results, lines, ping.Pinger.shared(env.net)._lines

    results, lines, left = in_namespace(a, main)
    assert [r.reason for r in results] == [""] * 200
    assert len(lines) == 1
    assert not left


@pytest.mark.lab
@pytest.mark.needs("tcpdump")
def test_a_blocked_loop_never_shows_up_as_latency(lab):
    """The loop is blocked 30 ms of every 100; the wire itself says how long each packet took."""
    a, _ = wired(lab)
    recorder = truth.start(a, "eth0", lab.directory / "truth.pcap")
    done = a.run("env", f"PYTHONPATH={delayline.ROOT}", sys.executable, "-m", "tests.bench.accuracy", NEAR, "--count", "100", "--hog")
    time.sleep(truth.DELAY)
    recorder.stop()

    reported = [p["rtt_seconds"] for p in json.loads(done.stdout)["packets"]]
    true = [p.rtt for p in truth.pings(lab.directory / "truth.pcap", NEAR)]
    errors = [abs(r - t) for r, t in zip(reported, true, strict=True)]
    assert statistics.median(errors) < 0.001
    assert max(reported) < max(true) + 0.01
