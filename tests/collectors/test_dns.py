"""dns against a real dnsmasq, and against servers that lie, mumble, cut off or say nothing."""

import asyncio
from pathlib import Path

import dns.flags
import dns.message
import pytest

from agent.collector import Env
from agent.net import Net
from agent.structure import ConfigError, loads
from collectors import dns as kind
from tests.fakes import FakeClock
from tests.nameserver import dnsmasq, port_pair, reply, serve, silent, zone

RECORD = "www.example. 300 IN A 192.0.2.80"


@pytest.fixture
def env(tmp_path):
    return Env(FakeClock(), Net(tmp_path), tmp_path)


def asked_of(env: Env, answer, config: str = "", runs: int = 1):
    """(samples by name, result, what the server was asked) of the last of `runs` runs against a server that answers so."""

    async def run():
        async with serve(answer) as (port, asked):
            collector = kind.DnsCollector(dns_config(f"port: {port}\n{config}"), env)
            for _ in range(runs):
                *samples, result = await collector.collect()
            return {s.metric.name: s.value for s in samples}, result, asked

    return asyncio.run(run())


def dns_config(text: str) -> kind.Config:
    defaults = {"target": "127.0.0.1", "query": "www.example", "timeout": "5s"}
    text += "".join(f"\n{k}: {v}" for k, v in defaults.items() if f"{k}:" not in text)
    return loads(text.encode(), kind.Config, "agent.yaml")


def test_an_answer_in_full(env):
    samples, result, asked = asked_of(env, zone(RECORD))

    duration = samples.pop("ronda_dns_lookup_duration_seconds")
    assert samples == {
        "ronda_dns_bad_replies_total": 0,
        "ronda_dns_rcode": 0,
        "ronda_dns_answers": 1,
        "ronda_dns_answer_ttl_seconds": 300,
        "ronda_dns_response_bytes": len(reply(dns.message.make_query("www.example.", "A", use_edns=0), RECORD)),
        "ronda_dns_truncated": 0,
    }
    question = 12 + len(b"\3www\7example\0") + 4 + 11  # header, name, type and class, EDNS (RFC 6891 6.1.2)
    assert result == ("", "", duration, (question + 28, int(samples["ronda_dns_response_bytes"]) + 28))
    assert asked == ["www.example. A udp"]


def test_once_shows_question_and_answer(env):
    async def run():
        async with serve(zone(RECORD)) as (port, _):
            return await kind.once(dns_config(f"port: {port}\nrecursion: no"), env)

    found = asyncio.run(run())

    assert found == {
        "target": "127.0.0.1", "ok": True, "reason": None, "detail": None, "server": "127.0.0.1",
        "question": {"name": "www.example", "type": "A", "recursion": False}, "bad_replies": {}, "rcode": "NOERROR", "flags": ["RA"],
        "transport": "udp", "truncated": False, "response_bytes": found["response_bytes"], "duration_seconds": found["duration_seconds"],
        "answers": [{"name": "www.example", "type": "A", "ttl": 300, "data": "192.0.2.80"}], "authority": [], "additional": [],
    }  # fmt: skip


@pytest.mark.needs("dnsmasq")
@pytest.mark.parametrize(
    ("query", "type_", "expect"),
    [
        ("www.example", "A", "{answers: [192.0.2.80]}"),
        ("WWW.Example.", "AAAA", '{answers: ["2001:DB8:0::80"], min_ttl: 5m}'),
        ("siak.example", "A", "{answers: [192.0.2.80]}"),
        ("siak.example", "CNAME", "{answers: [WWW.example.]}"),
        ("example", "MX", "{answers: [10 mail.example]}"),
        ("example", "TXT", "{answers: [v=spf1 -all]}"),
        ("_ldap._tcp.example", "SRV", "{answers: [1 2 389 www.example]}"),
        ("192.0.2.80", "PTR", "{answers: [www.example]}"),
        ("2001:db8::80", "PTR", "{answers: [www.example]}"),
        ("many.example", "A", "{among: [192.0.2.1, 192.0.2.2, 192.0.2.3]}"),
        ("nobody.example", "A", "{rcode: [NXDOMAIN, NOERROR]}"),
        ("www.example", "NS", "{rcode: [NXDOMAIN, NOERROR]}"),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_real_dnsmasq_answers_as_expected(env, shared_dnsmasq, query, type_, expect, transport):
    config = dns_config(f"port: {shared_dnsmasq}\nquery: '{query}'\ntype: {type_}\nexpect: {expect}\ntransport: {transport}")

    found = asyncio.run(kind.once(config, env))

    assert (found["ok"], found["detail"], found["transport"]) == (True, None, transport)


@pytest.fixture(scope="module")
def shared_dnsmasq(tmp_path_factory):
    with dnsmasq(
        tmp_path_factory.mktemp("dnsmasq"),
        "--host-record=www.example,192.0.2.80,2001:db8::80,600",
        "--host-record=many.example,192.0.2.1",
        "--host-record=many.example,192.0.2.2",
        "--cname=siak.example,www.example",
        "--mx-host=example,mail.example,10",
        "--txt-record=example,v=spf1 -all",
        "--srv-host=_ldap._tcp.example,www.example,389,1,2",
        "--txt-record=large.example," + ",".join(["x" * 250] * 8),
    ) as port:
        yield port


@pytest.mark.needs("dnsmasq")
def test_a_real_answer_that_does_not_fit_comes_by_tcp(env, shared_dnsmasq):
    collector = kind.DnsCollector(dns_config(f"port: {shared_dnsmasq}\nquery: large.example\ntype: TXT"), env)

    look = asyncio.run(collector.look())

    assert look.result.reason == ""
    assert (look.reply.transport, look.reply.truncated, look.records[0].data) == ("tcp", True, "x" * 2000)
    assert look.reply.size > 2000


@pytest.mark.parametrize(
    ("expect", "reason", "detail"),
    [
        ("{answers: [192.0.2.81]}", "answer", "answered 192.0.2.80, expected 192.0.2.81"),
        ("{answers: [192.0.2.80, 192.0.2.81]}", "answer", "answered 192.0.2.80, expected 192.0.2.80, 192.0.2.81"),
        ("{among: [192.0.2.80, 192.0.2.81]}", "", ""),
        ("{among: [192.0.2.81]}", "answer", "answered 192.0.2.80, expected 192.0.2.81"),
        ("{min_ttl: 5m}", "", ""),
        ("{min_ttl: 301s}", "answer", "the time to live is 300 s, expected at least 301 s"),
        ("{rcode: [NXDOMAIN]}", "rcode", "the server says NOERROR"),
    ],
)
def test_what_was_expected_and_what_came(env, expect, reason, detail):
    _, result, _ = asked_of(env, zone(RECORD), f"expect: {expect}")

    assert (result.reason, result.detail) == (reason, detail)


def test_a_bad_rcode_is_shown_with_its_samples(env):
    samples, result, _ = asked_of(env, lambda q, t: [reply(q, rcode=2)])

    assert (result.reason, result.detail) == ("rcode", "the server says SERVFAIL")
    assert (samples["ronda_dns_rcode"], samples["ronda_dns_answers"]) == (2, 0)
    assert "ronda_dns_answer_ttl_seconds" not in samples


def test_a_name_without_such_a_record_is_no_answer(env):
    _, result, _ = asked_of(env, zone(RECORD), "type: AAAA")

    assert (result.reason, result.detail) == ("answer", "answered no AAAA record")


def _forged(query, transport):
    evil = f"{query.question[0].name} 60 IN A 203.0.113.66"
    other = dns.message.make_query("evil.example.", "A", id=query.id)
    return [b"noise", reply(query, evil, id=query.id ^ 1), reply(other, evil), query.to_wire()]


def test_forged_replies_are_counted_and_passed_over(env):
    samples, result, _ = asked_of(env, lambda q, t: [*_forged(q, t), reply(q, RECORD)], "expect: {answers: [192.0.2.80]}", runs=2)

    assert (result.reason, samples["ronda_dns_bad_replies_total"]) == ("", 8)


def test_forged_replies_are_passed_over_in_a_stream_too(env):
    samples, result, _ = asked_of(env, lambda q, t: [*_forged(q, t), reply(q, RECORD)], "transport: tcp")

    assert (result.reason, samples["ronda_dns_bad_replies_total"]) == ("", 4)


def test_garbage_alone_is_a_wrong_answer(env):
    samples, result, _ = asked_of(env, _forged, "timeout: 200ms")

    assert result.reason == "answer"
    assert "1 malformed, 1 wrong id, 1 wrong question, 1 not a reply" in result.detail
    assert samples == {"ronda_dns_bad_replies_total": 4}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_silence_is_a_timeout(env, transport):
    udp, tcp = port_pair()
    with udp, tcp:
        tcp.listen()
        config = dns_config(f"port: {udp.getsockname()[1]}\ntimeout: 200ms\ntransport: {transport}")
        result = [*asyncio.run(kind.DnsCollector(config, env).collect())][-1]

    assert (result.reason, result.detail) == ("timeout", "127.0.0.1 did not answer within 0.2 s")


def test_a_stream_that_ends_early_is_a_reset(env):
    _, result, _ = asked_of(env, silent, "transport: tcp")

    assert (result.reason, result.detail) == ("reset", "127.0.0.1 closed the connection without an answer")


def test_a_cut_off_answer_that_tcp_can_not_complete_says_so(env):
    _, result, _ = asked_of(env, lambda q, t: [reply(q, flags=dns.flags.TC)] if t == "udp" else [])

    assert result.reason == "reset"
    assert result.detail == "127.0.0.1 closed the connection without an answer (by TCP, as the answer by UDP was cut off)"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_port_where_nobody_listens_refuses(env, transport):
    udp, tcp = port_pair()
    with udp, tcp:
        port = udp.getsockname()[1]

    result = [*asyncio.run(kind.DnsCollector(dns_config(f"port: {port}\ntransport: {transport}"), env).collect())][-1]

    assert result.reason == "refused"


@pytest.mark.parametrize(
    ("config", "reason"),
    [("target: nobody.example", "resolve"), ("target: resolver", "resolve"), ("source: 203.0.113.7", "send"), ("source: nodev0", "send")],
)
def test_each_failure_has_its_reason(env, config, reason):
    result = [*asyncio.run(kind.DnsCollector(dns_config(config), env).collect())][-1]

    assert (result.reason, bool(result.detail)) == (reason, True)
    assert reason in kind.KIND.reasons


def test_the_boxs_own_resolver(tmp_path, env):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\n")

    _, result, _ = asked_of(env, zone(RECORD), "target: resolver")

    assert result.reason == ""


def test_a_server_that_can_not_do_edns_is_asked_without(env):
    answer = zone(RECORD)

    def old(query, transport):
        if query.edns >= 0:
            return [query.id.to_bytes(2, "big") + b"\x80\x01" + bytes(8)]  # a header alone, FORMERR
        return answer(query, transport)

    samples, result, asked = asked_of(env, old)

    assert (result.reason, len(asked), samples["ronda_dns_bad_replies_total"]) == ("", 2, 0)


def test_nothing_is_left_open(env):
    async def run():
        async with serve(zone(RECORD)) as (port, _):
            configs = [dns_config(f"port: {port}\ntransport: {t}\nsource: {s!r}") for t in ("udp", "tcp") for s in ("", "nodev0")]
            before = len([*Path("/proc/self/fd").iterdir()])
            for config in configs * 5:
                await kind.DnsCollector(config, env).collect()
            await asyncio.sleep(0.05)  # the server closes its ends
            return len([*Path("/proc/self/fd").iterdir()]) - before

    assert asyncio.run(run()) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query: a..b", "query: 'a..b' has a label that is empty"),
        ("type: ANY", '"ANY" is not one of A, AAAA'),
        ("port: 0", "port: must be 1 to 65535"),
        ("expect: {answers: ['2001:db8::1']}", "can't be the answer to a question for A"),
        ("expect: {answers: [192.0.2.1], among: [192.0.2.1]}", "can't stand beside"),
        ("expect: {rcode: []}", "is empty"),
        ("expect: {rcode: [NXDOMAIN], answers: [192.0.2.1]}", "must be NOERROR alone"),
        ("timeout: 20s", "must not be longer than the interval"),
        ("target: 'http://a'", "is not a host"),
    ],
)
def test_bad_configs(text, message):
    with pytest.raises(ConfigError) as e:
        dns_config(text)

    assert message in str(e.value)


def test_two_questions_to_one_server_are_two_tasks():
    names = {dns_config(text).identity() for text in ("", "type: AAAA", "query: b.example", "port: 5353", "source: eth0")}

    assert names == {
        "127.0.0.1/www.example/A",
        "127.0.0.1/www.example/AAAA",
        "127.0.0.1/b.example/A",
        "127.0.0.1:5353/www.example/A",
        "127.0.0.1@eth0/www.example/A",
    }
