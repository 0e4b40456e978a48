"""What leaves of a security event names nobody; the same somebody has one pseudonym, and it can be looked up on this box alone."""

import dataclasses
import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import pseudonyms
from agent.decisions import Decision
from agent.eventlane import EventLane
from agent.journal import Journal
from agent.model import Event
from agent.pseudonyms import FORM, Masker, Pseudonyms, is_identity, load, mac_class, unmask
from agent.secret import SecretError
from agent.syslog import JournalSource, message
from agent.wire import event as lines
from agent.wire.event import MAX_FIELDS, MAX_VALUE, Entry
from tests.fakes import FakeClock
from tests.fuzz import fuzz

NOW = 1_795_000_000.0
OURS = Pseudonyms(b"a key of this site")
MAC, IP, NAME = "3c:52:82:14:7a:01", "192.168.10.66", "budi-laptop"
FIELDS = {
    "event.kind": "alert", "event.id": "DKC-1124-0915", "rule.id": "L10", "rule.name": "arp_sweep", "rule.version": "1.2.3.4",
    "observer.name": "DKC", "ronda.grade": "medium", "ronda.dedup_key": f"arp_sweep {MAC}", "ronda.targets": "255", "source.mac": MAC,
    "source.ip": IP, "source.port": "40000", "host.name": NAME, "user.name": "12345", "ronda.servers": f"{IP}, 10.0.0.9",
    "file.path": "/home/budi/.ssh/authorized_keys", "ronda.why": f"it was {MAC.upper()} ({IP}), said {NAME}", "process.name": "sshd",
}  # fmt: skip


def alert(fields=FIELDS, text="somebody asks for many addresses"):
    return Entry(7, Event("arp_sweep", "warning", text, fields, NOW, NOW), "lan", {"role": "wan"})


def told(entry):
    return lines.encode(entry, abroad=True).decode()


@pytest.mark.parametrize("kind", ["trap", "trap_refused"])
def test_what_devices_tell_names_nobody_either(kind):
    """It is no finding, but a device has written it; RouterOS calls a session's interface after who dialled in."""
    fields = {
        "ronda.device": "router",
        "ronda.interface": f"<pppoe-{NAME}>",
        "oid": "1.3.6.1.6.3.1.1.5.3",
        "source.ip": IP,
        "user.name": NAME,
    }
    masked = OURS.mask(Entry(7, Event(kind, "info", "a device says: link down", fields, NOW, NOW), "traps", {}))
    assert not any(raw in told(masked) for raw in (IP, NAME))
    assert masked.event.fields["source.ip"] == OURS.of(IP)
    assert (masked.event.fields["ronda.device"], masked.event.fields["oid"]) == ("router", "1.3.6.1.6.3.1.1.5.3")


def test_what_leaves_names_nobody_and_says_what_it_must():
    masked = OURS.mask(alert())
    fields = masked.event.fields
    said = told(masked)
    for raw in (MAC, MAC.upper(), IP, NAME, "12345", "budi", "10.0.0.9"):
        assert raw not in said
    assert fields["source.mac"] == OURS.of(MAC)
    assert (fields["source.mac_oui"], fields["source.mac_class"]) == ("3c:52:82", "global")
    assert fields["ronda.servers"] == f"{OURS.of(IP)}, {OURS.of('10.0.0.9')}"
    assert fields["ronda.why"] == f"it was {OURS.of(MAC)} ({OURS.of(IP)}), said {OURS.of(NAME)}"
    assert fields["file.path"] == f"/home/{OURS.of('budi')}/.ssh/authorized_keys"
    kept = (
        "event.id",
        "rule.id",
        "rule.name",
        "rule.version",
        "observer.name",
        "ronda.grade",
        "ronda.targets",
        "source.port",
        "process.name",
    )
    assert {name: fields[name] for name in kept} == {name: FIELDS[name] for name in kept}
    assert masked.labels == {"role": "wan"}
    assert OURS.mask(masked).event.fields["source.mac"] == fields["source.mac"]  # masked twice is masked once


def test_a_random_mac_has_a_class_and_no_oui():
    fields = OURS.mask(alert({"event.kind": "alert", "source.mac": "da:a1:19:00:11:22"})).event.fields
    assert fields["source.mac_class"] == "random"
    assert "source.mac_oui" not in fields


@pytest.mark.parametrize(
    ("mac", "kind"),
    [
        ("3c:52:82:14:7a:01", "global"),
        ("02:52:4f:4e:00:01", "random"),
        ("01:00:5e:00:00:01", "group"),
        ("00:00:5e:00:01:0a", "router_group"),
    ],
)
def test_classes_of_macs(mac, kind):
    assert mac_class(mac) == kind


def test_one_name_has_one_pseudonym_however_it_is_written_and_another_at_another_site():
    assert OURS.of("3C-52-82-14-7A-01") == OURS.of(MAC) == OURS.of(f" {MAC} ")
    assert OURS.of("fe80::1%eth0") == OURS.of("FE80:0:0::1")
    assert Pseudonyms(b"another").of(MAC) != OURS.of(MAC)
    assert FORM.fullmatch(OURS.of(MAC))


@pytest.mark.parametrize("nobody", ["ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255", "224.0.0.251", "root", "::", "127.0.0.1"])
def test_what_is_nobodys_stays(nobody):
    assert OURS.mask(alert({"event.kind": "alert", "destination.ip": nobody})).event.fields["destination.ip"] == nobody


def test_other_events_are_as_they_were():
    entry = Entry(1, Event("link_down", "warning", f"eth0 of {IP}", {"address": IP}, NOW, NOW))
    assert OURS.mask(entry) is entry


def test_addresses_in_a_message_are_masked_too():
    said = told(OURS.mask(alert(text=f"{IP} and {MAC}, [fe80::52:1]:80, v7.15.3, 10:30:00")))
    assert OURS.of(IP) in said
    assert OURS.of(MAC) in said
    assert OURS.of("fe80::52:1") in said
    assert "v7.15.3, 10:30:00" in said


NAMES = st.from_regex(r"[a-z][a-z0-9-]{4,12}", fullmatch=True)
MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")).filter(lambda mac: not pseudonyms.is_nobody(mac))
IPS = st.ip_addresses().map(str).filter(lambda ip: len(ip) > 6 and not pseudonyms.is_nobody(ip))
WHO = st.sampled_from((
    "source.mac", "source.ip", "destination.ip", "client.mac", "user.name", "host.hostname", "ronda.old_mac", "ronda.router_ip",
    "ronda.dns_address", "related.ip", "server.address", "ronda.members", "ronda.key_owner",
))  # fmt: skip
ELSEWHERE = st.sampled_from(["ronda.detail", "file.path", "ronda.why", "process.command_line", "device.id", "url.path"])
SOMEBODY = st.one_of(MACS, IPS, NAMES)


@fuzz
@given(st.dictionaries(WHO, SOMEBODY, min_size=1), st.dictionaries(ELSEWHERE, st.text(max_size=40)), st.data())
def test_whoever_is_named_is_nowhere_in_what_leaves(who, elsewhere, data):
    raw = sorted(set(who.values()))
    for name, text in list(elsewhere.items()):
        elsewhere[name] = f"{text} {data.draw(st.sampled_from(raw))} {data.draw(st.sampled_from(raw))},"
    masked = OURS.mask(alert({"event.kind": "alert", **who, **elsewhere}))
    words = re.split(r"[^0-9A-Za-z:.\-]+", " ".join(masked.event.fields.values()).lower())
    assert not [name for name in raw if name.lower() in words]
    assert all(FORM.fullmatch(masked.event.fields[name]) for name in who)
    assert lines.decode(lines.encode(masked, abroad=True)) == masked


@fuzz
@given(st.dictionaries(st.text(max_size=70), st.text(max_size=1200), max_size=70), st.text(max_size=600))
def test_anything_is_masked_within_what_the_centre_takes(fields, text):
    masked = OURS.mask(alert(fields | {"event.kind": "alert"}, text))
    found = lines.decode(lines.encode(dataclasses.replace(masked, labels={}), abroad=True))
    assert len(found.event.fields) <= MAX_FIELDS
    assert all(len(value) <= MAX_VALUE for value in found.event.fields.values())


def test_which_fields_are_somebody():
    assert all(
        map(is_identity, ["source.mac", "user.name", "ronda.mac_a", "ronda.old_mac", "host.hostname", "ronda.server_id", "related.hosts"])
    )
    assert not any(
        map(is_identity, ["rule.name", "observer.name", "event.action", "ronda.grade", "process.name", "ronda.seconds", "file.path"])
    )


# --- the key ---------------------------------------------------------------------------------------------------------------------


def test_the_key_is_made_once_for_its_owner_only_and_kept(tmp_path):
    first = load(tmp_path / "new")
    path = tmp_path / "new" / pseudonyms.NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(tmp_path / "new").of(MAC) == first.of(MAC)
    assert load(tmp_path / "other").of(MAC) != first.of(MAC)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [pseudonyms.NAME]
    path.write_text("short")
    with pytest.raises(SecretError, match="remove it"):
        load(tmp_path / "new")


def test_a_key_from_the_config_gives_a_new_box_the_old_pseudonyms(tmp_path):
    (tmp_path / "key").write_text("a key that Kominfo keeps\n")
    (tmp_path / "key").chmod(0o600)
    assert load(tmp_path / "one", tmp_path / "key").of(MAC) == load(tmp_path / "two", tmp_path / "key").of(MAC)
    assert not (tmp_path / "one").exists()


def test_without_its_key_nothing_leaks_and_it_is_said(tmp_path):
    masker = Masker(tmp_path, tmp_path / "missing")
    assert MAC not in told(masker(alert()))
    assert "key_file" in masker.problem
    (tmp_path / "missing").write_text("it is there now")
    (tmp_path / "missing").chmod(0o600)
    right = masker(alert()).event.fields["source.mac"]
    assert masker.problem == ""
    assert right == Pseudonyms(b"it is there now").of(MAC)
    masker.use(None)
    assert masker(alert()).event.fields["source.mac"] != right
    assert masker(Entry(1, Event("x", "info", IP))).event.message == IP


def test_a_pseudonym_is_looked_up_in_this_boxs_events():
    assert unmask(OURS, OURS.of(MAC), iter([alert()])) == MAC
    assert unmask(OURS, OURS.of("budi"), iter([alert()])) == "budi"
    assert unmask(OURS, OURS.of("10.0.0.9"), iter([alert()])) == "10.0.0.9"
    assert unmask(OURS, OURS.of("nobody"), iter([alert()])) is None


# --- both exits --------------------------------------------------------------------------------------------------------------------


def test_neither_exit_tells_who_it_was_and_the_journal_does(tmp_path):
    journal = Journal(tmp_path, "dukcapil", FakeClock())
    journal.append([alert()])
    lane = EventLane(FakeClock(), journal, lambda: None, lambda: None, OURS.mask)
    posted = b"\n".join(lines.unpack((letter := lane.letter()).body, dict(letter.headers).get("Content-Encoding", "")))
    logged = b"".join(message(it, NOW) for it in JournalSource(journal, OURS.mask).letters(1 << 20))
    for sent in (posted.decode(), logged.decode()):
        assert not [raw for raw in (MAC, IP, NAME, "12345") if raw in sent]
        assert OURS.of(MAC) in sent
    assert json.loads(lines.encode(journal.after(0)[0]))["fields"]["source.mac"] == MAC


def test_an_address_in_the_reason_of_a_decision_does_not_leave():
    said = Decision(1, NOW, "accept", "DKC-1124-0915", "Budi", f"laptop at {IP}, {MAC.upper()}", until=NOW).event()
    left = told(OURS.mask(Entry(7, said)))
    assert IP not in left
    assert MAC not in left.lower()
    assert OURS.of(MAC) in left
    assert "Budi" in left
    assert MAC not in told(Masker(Path("/nonexistent"))(Entry(7, said))).lower()


def test_the_pseudonym_of_a_whole_condition_is_looked_up_too():
    wanted = OURS.mask(alert()).event.fields["ronda.dedup_key"]
    assert unmask(OURS, wanted, iter([alert()])) == f"arp_sweep {MAC}"
