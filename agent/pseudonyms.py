"""Pseudonyms: what leaves this box of security events says `P-7F3A09C1B2D4` where a MAC, an address or a name stands on it.

Law: a pseudonym is HMAC-SHA256 of the site's key, which never leaves; the same name has the same pseudonym, at this site only. Whoever
wants the name back asks here (`ronda events unmask`), and that is journalled. Of a MAC its maker (OUI) and class leave in fields of their
own, but not the OUI of a random one, which is a part of a person's device. Pure but for `load`.

Which fields: those whose name says that they are somebody (IDENTITIES), as wholes or word by word where they list; and in all others, and
in the message, what has the form of a MAC or an address, and what the first have named. Numbers and fields of FREE are left as they are.
"""

import dataclasses
import hashlib
import hmac
import ipaddress
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from agent.secret import SecretError, read_secret
from agent.wire.event import MAX_FIELDS, Entry, bounded

log = logging.getLogger("ronda.pseudonyms")

Mask: TypeAlias = Callable[[Entry], Entry]

NAME = "pseudonyms.key"
FORM = re.compile(r"P-[0-9A-F]{12}")
IDENTITIES = frozenset((
    "mac", "macs", "ip", "ips", "address", "addresses", "addr", "user", "users", "host", "hosts", "hostname", "hostnames", "person",
    "client", "clients", "server", "servers", "router", "routers", "source", "sources", "target", "targets", "sender", "senders",
    "responder", "responders", "destination", "related", "gateway", "gateways", "dns", "name", "names", "owner", "owners", "attacker",
    "victim", "member", "members", "prefix", "prefixes", "duid", "duids", "neighbour", "neighbours", "identity", "network", "networks",
    "domain", "account", "accounts",
))  # fmt: skip
DECIDED = frozenset(("finding_accepted", "evidence_held", "evidence_released", "identity_unmasked"))  # agent/decisions.py
HEARD = frozenset(("trap", "trap_refused"))  # collectors/traps.py: no findings, and somebody else has written what they say
DEDUP = "ronda.dedup_key"  # "<rule> <key>": as a whole
FREE = (
    "event.", "rule.", "observer.", "threat.", "process.name", "package.", "service.", "network.transport", "ronda.state", "ronda.grade",
    "ronda.confidence", "ronda.device", "ronda.via", "ronda.areas", "ronda.advice_id", "ronda.suppressed_by", "ronda.suppressed_until",
    "ronda.evidence", "ronda.more",
)  # fmt: skip
SHORTEST = 3  # characters of a name that is looked for elsewhere: shorter ones stand in every word
_MAC = re.compile(r"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![0-9A-Za-z]|[:-][0-9A-Fa-f])")
_WORD = re.compile(r"[0-9A-Za-z_.:%-]+")
_HOME = re.compile(r"(?<=/home/)[^/\s]+")
_NOBODY = frozenset(("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "root"))
_VIRTUAL = ("00:00:5e:00:01", "00:00:5e:00:02", "00:00:0c:07:ac", "00:00:0c:9f:f")  # VRRP (RFC 9568), HSRP


def is_security(entry: Entry) -> bool:
    """Whether an event is one of the detectors'."""
    return entry.event.fields.get("event.kind") == "alert"


def load(data: Path, given: Path | None = None) -> "Pseudonyms":
    """With the key of the config, else the box's own, which is made where there is none. Raises SecretError, OSError."""
    if given:
        return Pseudonyms(read_secret(given).encode())
    path = data / NAME
    if not path.exists():
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as f:
            f.write(secrets.token_hex(32) + "\n")
            f.flush()
            os.fsync(f.fileno())
        try:
            os.link(new, path)  # whoever was first has made it
        except FileExistsError:
            pass
        finally:
            new.unlink()
    found = path.read_text().strip()
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise SecretError(f"{path} holds no key of pseudonyms: remove it, and another is made (old pseudonyms are lost then)")
    return Pseudonyms(found.encode())


class Pseudonyms:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, name: str) -> str:
        """The pseudonym of a MAC, an address or a name, however it is written."""
        return f"P-{hmac.new(self._key, normal(name).encode(errors='replace'), hashlib.sha256).hexdigest()[:12].upper()}"

    def mask(self, entry: Entry) -> Entry:
        """The entry as it may leave."""
        if not is_security(entry) and entry.event.kind not in HEARD:
            return self._decided(entry)
        event = entry.event
        known = self._known(event.fields)
        fields: dict[str, str] = {}
        for name, value in event.fields.items():
            fields[name] = self._field(name, value, known)
            fields |= {n: v for n, v in about_mac(name, value).items() if n not in event.fields}
        fields = dict(list(fields.items())[:MAX_FIELDS])
        masked = dataclasses.replace(event, fields=fields, message=self._text(event.message, {}))
        return dataclasses.replace(entry, event=bounded(masked))

    def _decided(self, entry: Entry) -> Entry:
        """A decision's reason is free text of a person, who may have written down an address; all other events are as they are."""
        reason = entry.event.fields.get("reason", "")
        if entry.event.kind not in DECIDED or (masked := self._text(reason, {})) == reason:
            return entry
        fields = {**entry.event.fields, "reason": masked}
        return dataclasses.replace(entry, event=bounded(dataclasses.replace(entry.event, fields=fields)))

    def _known(self, fields: Mapping[str, str]) -> dict[str, str]:
        """What the fields name, and its pseudonym."""
        names = {word for name, value in fields.items() if is_identity(name) for word in words(value) if not _counts(name, value)}
        names |= set(words(fields.get(DEDUP, "").partition(" ")[2]))
        return {word: self.of(word) for word in sorted(names, key=len, reverse=True) if len(word) >= SHORTEST and not is_nobody(word)}

    def _field(self, name: str, value: str, known: Mapping[str, str]) -> str:
        if name == DEDUP:
            return self.of(value)
        if name.startswith(FREE) or _counts(name, value):
            return value
        if not is_identity(name):
            return self._text(value, known)
        found = words(value)
        return ", ".join(word if is_nobody(word) else self.of(word) for word in found)

    def _text(self, text: str, known: Mapping[str, str]) -> str:
        """A text without what is somebody."""
        text = _MAC.sub(lambda found: found[0] if is_nobody(found[0]) else self.of(found[0]), text)
        text = _WORD.sub(lambda found: self._word(found[0]), text)
        text = _HOME.sub(lambda found: found[0] if FORM.fullmatch(found[0]) else self.of(found[0]), text)
        for name, pseudonym in known.items():
            text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", pseudonym, text, flags=re.IGNORECASE)
        return text

    def _word(self, word: str) -> str:
        bare = word.strip(".:-") if not word.startswith("::") else word.rstrip(".-")
        address = _address(bare)
        return word if address is None or is_nobody(address) else word.replace(bare, self.of(address))


class Masker:
    """The Mask of this box: its key is read when it is first needed. Without it a key of the moment does: nothing leaks, and it is said."""

    def __init__(self, data: Path, given: Path | None = None) -> None:
        self._data, self._given = data, given
        self._known: Pseudonyms | None = None
        self._moment = Pseudonyms(secrets.token_bytes(32))
        self.problem = ""

    def use(self, given: Path | None) -> None:
        """Another key of the config."""
        if given != self._given:
            self._given, self._known = given, None

    def __call__(self, entry: Entry) -> Entry:
        return self._pseudonyms().mask(entry) if is_security(entry) or entry.event.kind in DECIDED else entry

    def _pseudonyms(self) -> Pseudonyms:
        if self._known is None:
            try:
                self._known, self.problem = load(self._data, self._given), ""
            except (SecretError, OSError) as e:
                if not self.problem:
                    log.error("the key of pseudonyms can't be read; until it can, they last for this run only: %s", e)
                self.problem = f"events.key_file: {e}"
        return self._known or self._moment


def is_identity(name: str) -> bool:
    """Whether a field's name says that its value is somebody."""
    return not name.startswith(FREE) and name != DEDUP and bool(IDENTITIES.intersection(re.split(r"[._]", name)))


def _counts(name: str, value: str) -> bool:
    """Whether it is a number: of a port, or of how many there are; `user.name` 12345 is none."""
    leaf = re.split(r"[._]", name)[-1]
    many = leaf.endswith("s") and leaf not in ("address", "dns")
    return value.replace(".", "", 1).isdecimal() and (many or leaf not in IDENTITIES)


def words(value: str) -> list[str]:
    """The names in a value that lists them."""
    return [word for word in (part.strip() for part in re.split(r"[,;\s]+", value)) if word]


def normal(name: str) -> str:
    """One writing of one name."""
    name = name.strip()
    if _MAC.fullmatch(name):
        return name.lower().replace("-", ":")
    return _address(name) or name.lower()


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def is_nobody(name: str) -> bool:
    """Everybody's names, and nobody's: they say nothing of a person."""
    name = normal(name)
    if name in _NOBODY or not name or FORM.fullmatch(name.upper()):
        return True
    if (address := _address(name)) is None:
        return False
    read = ipaddress.ip_address(address)
    return read.is_unspecified or read.is_loopback or read.is_multicast or address == "255.255.255.255"


def about_mac(name: str, value: str) -> dict[str, str]:
    """What may be known of a MAC: its maker and its class."""
    if name.startswith(FREE) or not _MAC.fullmatch(value.strip()):
        return {}
    mac = normal(value)
    kind = mac_class(mac)
    return {f"{name}_class": kind, **({f"{name}_oui": mac[:8]} if kind in ("global", "router_group") else {})}


def mac_class(mac: str) -> str:
    """IEEE 802: group, random (locally administered) or global; and the MACs that routers share."""
    if mac.startswith(_VIRTUAL):
        return "router_group"
    if mac[1] in "13579bdf":
        return "group"
    return "random" if mac[1] in "26ae" else "global"


def unmask(pseudonyms: Pseudonyms, pseudonym: str, entries: Iterator[Entry]) -> str | None:
    """The name behind a pseudonym, where some event of this box names it."""
    for entry in entries:
        for name, value in entry.event.fields.items():
            if name.startswith(FREE):
                continue
            for word in {value, *words(value), *(found for found in _WORD.findall(value)), *_MAC.findall(value), *_HOME.findall(value)}:
                if pseudonyms.of(word) == pseudonym:
                    return normal(word)
    return None
