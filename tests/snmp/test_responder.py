"""The responder is believed because net-snmp's own tools and pysnmp read from it what is in the file, in v1 and v2c, row by row."""

import asyncio
import pathlib
import shutil
import subprocess

import pytest

from tests.snmp.recording import COUNTER64, INTEGER, STRING, TICKS, UNSIGNED, Responder, Row, oid, parse, read
from tests.snmp.recordings import GENERATED_NAMES, REAL_NAMES, recording

needs_netsnmp = pytest.mark.skipif(shutil.which("snmpbulkwalk") is None, reason="net-snmp's tools are not installed (Debian: snmp)")
TEMPERATURE, NAME = oid("1.3.6.1.4.1.14988.1.1.3.11.0"), oid("1.3.6.1.2.1.1.5.0")


def ask(tool: str, version: str, port: int, *rest: str, patience: str = "5") -> list[str]:
    """What the tool prints, a row a line, names and values as numbers."""
    command = [tool, f"-v{version}", "-c", "public", "-m", "", "-r", "0", "-t", patience, "-OnqetU", f"127.0.0.1:{port}", *rest]
    said = subprocess.run(command, capture_output=True, timeout=60, check=False).stdout.decode(errors="replace")
    return [line for line in said.split("\n") if line.startswith(".1.") and "No more variables" not in line]


def numbers(lines: list[str]) -> dict[str, str]:
    return {name.removeprefix("."): value for name, _, value in (line.partition(" ") for line in lines)}


@needs_netsnmp
@pytest.mark.parametrize("name", [*GENERATED_NAMES, *REAL_NAMES])
def test_every_row_of_a_file_is_walked_by_netsnmp(name: str) -> None:
    path = recording(name)
    if path is None:
        return
    rows, skipped = read(path)
    assert len(rows) + skipped == sum(1 for line in path.read_bytes().splitlines() if line.strip())
    with Responder(rows) as device:
        walked = numbers(ask("snmpbulkwalk", "2c", device.port, "1"))
        assert [oid(name) for name in walked] == list(rows)
        for at, row in rows.items():
            if row.tag == INTEGER or row.tag in UNSIGNED:
                assert walked[".".join(map(str, at))] == str(row.value)
        assert device.told == set(rows)


@needs_netsnmp
def test_version_1_walks_all_but_counters_of_64_bit() -> None:
    rows, _ = read(recording("mikrotik-lte") or pathlib.Path())
    with Responder(rows) as device:
        walked = [oid(name) for name in numbers(ask("snmpwalk", "1", device.port, "1"))]
        assert walked == [name for name, row in rows.items() if row.tag != COUNTER64]
        wide = next(name for name, row in rows.items() if row.tag == COUNTER64)
        refused = subprocess.run(
            ["snmpget", "-v1", "-c", "public", "-m", "", "-On", f"127.0.0.1:{device.port}", ".".join(map(str, wide))],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert b"noSuchName" in refused.stderr


@needs_netsnmp
def test_what_it_says_can_be_changed_while_it_runs() -> None:
    rows, _ = read(recording("mikrotik-lte") or pathlib.Path())
    with Responder(rows) as device:
        device.put({TEMPERATURE: Row(INTEGER, 512), NAME: Row(STRING, b"lain")})
        assert numbers(ask("snmpget", "2c", device.port, "1.3.6.1.4.1.14988.1.1.3.11.0")) == {"1.3.6.1.4.1.14988.1.1.3.11.0": "512"}
        device.reindex({1: 7, 2: 1})
        names = numbers(ask("snmpbulkwalk", "2c", device.port, "1.3.6.1.2.1.31.1.1.1.1"))
        assert [(name.rpartition(".")[2], value) for name, value in names.items()][:2] == [("1", '"lte1"'), ("3", '"wlan1"')]
        assert names["1.3.6.1.2.1.31.1.1.1.1.7"] == '"ether1"'
        assert numbers(ask("snmpget", "2c", device.port, "1.3.6.1.2.1.2.2.1.1.7")) == {"1.3.6.1.2.1.2.2.1.1.7": "7"}
        device.drop(oid("1.3.6.1.2.1.31"))
        assert [row for row in device.rows if row[:7] == oid("1.3.6.1.2.1.31")] == []


@needs_netsnmp
def test_a_wrong_community_is_met_with_silence_and_lies_with_a_loop() -> None:
    rows, _ = read(recording("ups-rfc1628") or pathlib.Path())
    with Responder(rows, community="rahasia") as device:
        assert ask("snmpget", "2c", device.port, "1.3.6.1.2.1.1.5.0", patience="0.3") == []
        assert (device.refused, device.asked) == (1, 0)
    with Responder(rows) as device:
        device.jumps[oid("1.3.6.1.2.1.1.5.0")] = oid("1.3.6.1.2.1.1.1.0")
        said = subprocess.run(
            ["snmpwalk", "-v2c", "-c", "public", "-m", "", f"127.0.0.1:{device.port}", "1"], capture_output=True, timeout=60, check=False
        )
        assert b"OID not increasing" in said.stderr + said.stdout


def test_pysnmp_reads_the_same() -> None:
    from pysnmp.hlapi.v3arch.asyncio import (
        CommunityData,
        ContextData,
        ObjectIdentity,
        ObjectType,
        SnmpEngine,
        UdpTransportTarget,
        bulk_walk_cmd,
    )

    rows, _ = read(recording("ups-rfc1628") or pathlib.Path())

    async def walk(port: int) -> list[tuple[int, ...]]:
        engine = SnmpEngine()
        target = await UdpTransportTarget.create(("127.0.0.1", port), timeout=5, retries=0)
        found = []
        start = ObjectType(ObjectIdentity("1.3.6"))
        async for error, status, _, bindings in bulk_walk_cmd(
            engine, CommunityData("public"), target, ContextData(), 0, 25, start, lookupMib=False
        ):
            assert (error, int(status)) == (None, 0)
            found += [tuple(name) for name, _ in bindings]
        engine.close_dispatcher()
        return found

    with Responder(rows) as device:
        assert asyncio.run(walk(device.port)) == list(rows)


def test_lines_that_are_none_are_counted() -> None:
    rows, skipped = parse(
        [
            b"1.3.6.1.2.1.1.3.0|67|42",
            b"1.3.6.1.2.1.1.5.0|4|a|b",  # a value may hold the separator
            b"1.3.6.1.2.1.1.6.0|4x|00ff",
            b"",
            b"# a comment",
            b"1.3.6.1.2.1.1.7.0|4:numeric|rate=1",
            b"1.3.6.1.2.1.2.1.0|2|many",
            b"1.3.6.1.2.1.2.1.0|65|-1",
            b"1.3.6.1.2.1.2.2.0|99|1",
            b"1.3.6.1.2.1.1.3.0|67|43",  # said twice: the later
            b"3.3|2|1",
        ]
    )
    assert skipped == 7
    assert rows == {oid("1.3.6.1.2.1.1.3.0"): Row(TICKS, 43), NAME: Row(STRING, b"a|b"), oid("1.3.6.1.2.1.1.6.0"): Row(STRING, b"\x00\xff")}
