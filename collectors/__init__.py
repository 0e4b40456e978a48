"""KINDS, the one table of what Ronda can observe. A kind is one file here; imports have no effects."""

from collections.abc import Mapping

from agent.collector import Kind
from collectors import dns, guard, host, http, icmp, lan, link, snmp, syslog, tcp, traps

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (icmp.KIND, tcp.KIND, http.KIND, dns.KIND, link.KIND, host.KIND, lan.KIND, guard.KIND, snmp.KIND, syslog.KIND, traps.KIND)
}
