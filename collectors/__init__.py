"""KINDS, the one table of what Ronda can observe. A kind is one file here, imported when it is asked for; imports have no effects."""

import importlib
from collections.abc import Iterator, Mapping

from agent.collector import Kind

NAMES = ("icmp", "tcp", "http", "dns", "link", "host", "lan", "guard", "snmp", "syslog", "traps")


class Kinds(Mapping[str, Kind]):
    """By name. An agent pays for the kinds that its config has: all of them weigh 6 MiB."""

    def __getitem__(self, name: str) -> Kind:
        if name not in NAMES:
            raise KeyError(name)
        kind: Kind = importlib.import_module(f"{__name__}.{name}").KIND
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    def __contains__(self, name: object) -> bool:
        return name in NAMES


KINDS: Mapping[str, Kind] = Kinds()
