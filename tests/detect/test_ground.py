"""What the LAN's detectors share tells hosts from groups and near from afar, and bears any text."""

import pytest

from agent.detect import seen
from agent.detect.ground import Ground, host_address, host_mac, short
from tests.detect.lan import HERE


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("4C:5E:0C:11:22:01", "4c:5e:0c:11:22:01"),
        ("ff:ff:ff:ff:ff:ff", ""),
        ("01:00:5e:00:00:01", ""),
        ("00:00:00:00:00:00", ""),
        ("4c-5e-0c-11-22-01", ""),
        ("4c:5e:0c:11:22:01\n", ""),
        ("", ""),
        ("x" * 17, ""),
        ("٣c:5e:0c:11:22:01", ""),
    ],
)
def test_a_mac_is_one_hosts_or_none(text: str, mac: str) -> None:
    assert host_mac(text) == mac


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "127.0.0.1", "", "x" * 99_999, "192.0.2.1/24"]
)
def test_what_is_no_hosts_address_is_none(text: str) -> None:
    assert host_address(text) == ""


def test_near_and_afar() -> None:
    ground = Ground()
    assert not ground.afar("203.0.113.1")  # nobody has said where we are
    ground.hear(HERE._replace(networks=("192.0.2.0/24", "nonsense", "x" * 9999)))
    assert (ground.near("192.0.2.9"), ground.afar("192.0.2.9")) == (True, False)
    assert (ground.near("203.0.113.1"), ground.afar("203.0.113.1")) == (False, True)
    for text in ("0.0.0.0", "169.254.1.1", "255.255.255.255", "224.0.0.251", "2001:db8::1", "x"):
        assert not ground.afar(text), text  # of IPv6 no network is known
    ground.hear(HERE._replace(device="wg0", networks=("203.0.113.0/24",)))
    assert ground.near("203.0.113.1")


def test_the_first_word_on_the_cable_is_no_change() -> None:
    ground = Ground()
    for at, up in ((1.0, True), (2.0, True)):
        ground.feel(seen.Carrier(up), at)
    assert ground.flapped == float("-inf")
    ground.feel(seen.Carrier(False), 3.0)
    assert ground.flapped == 3.0


def test_a_frame_is_kept_short() -> None:
    assert len(short(seen.Frame("a", "b", "in", b"x" * 1500)).raw) == 64
