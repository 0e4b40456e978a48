"""Who may send: by address; the gateway is whoever is it now, unless its address has a name of its own."""

import asyncio
from pathlib import Path

import pytest

from agent import senders
from agent.net import Net
from agent.senders import EVERY, MOST, Senders
from tests.fakes import FakeClock

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"


def routed(root: Path, gateway: str) -> Net:
    """A box whose default route goes by that address, as /proc/net/route writes it."""
    folder = root / "proc/net"
    folder.mkdir(parents=True, exist_ok=True)
    number = "".join(f"{int(part):02X}" for part in reversed(gateway.split(".")))
    (folder / "route").write_text(f"{HEAD}eth0\t00000000\t{number}\t0003\t0\t0\t0\t00000000\n")
    return Net(root)


def test_who_is_the_gateway_has_its_name_and_another_has_it_later(tmp_path: Path) -> None:
    clock = FakeClock()
    known = Senders({"router": "gateway", "switch-1": "192.0.2.2"}, routed(tmp_path, "192.0.2.1"), clock)
    assert known.now() == {"192.0.2.1": "router", "192.0.2.2": "switch-1"}
    routed(tmp_path, "192.0.2.9")
    assert known.now() == {"192.0.2.1": "router", "192.0.2.2": "switch-1"}, "it is looked at every few seconds"
    asyncio.run(clock.advance(EVERY))
    assert known.now() == {"192.0.2.9": "router", "192.0.2.2": "switch-1"}


def test_a_gateway_with_a_name_of_its_own_has_that(tmp_path: Path) -> None:
    known = Senders({"gw": "gateway", "router": "192.0.2.1"}, routed(tmp_path, "192.0.2.1"), FakeClock())
    assert known.now() == {"192.0.2.1": "router"}


@pytest.mark.parametrize(
    ("listen", "named", "said"),
    [
        ("0.0.0.0:514", {"a": "192.0.2.1", "b": "gateway"}, []),
        (":514", {"a": "192.0.2.1"}, []),
        ("[::]:514", {"a": "2001:db8::1"}, []),
        ("kantor:514", {"a": "192.0.2.1"}, ["listen"]),
        ("0.0.0.0:514", {}, ["senders"]),
        ("0.0.0.0:514", {f"a{n}": f"192.0.2.{n}" for n in range(MOST + 1)}, ["senders"]),
        ("0.0.0.0:514", {"a": "gateway", "b": "gateway"}, ["senders"]),
    ],
)
def test_what_can_not_be_meant_is_said(listen: str, named: dict[str, str], said: list[str]) -> None:
    assert [field for field, _ in senders.problems(listen, named, 514)] == said


@pytest.mark.parametrize(("host", "so"), [("127.0.0.9", True), ("::1", True), ("192.0.2.1", False), ("0.0.0.0", False), ("", False)])
def test_loopback(host: str, so: bool) -> None:
    assert senders.loopback(host) == so
