"""What the page says of a device: from the samples of a look, and of what its logs and traps are heard by."""

from agent import texts
from agent.model import Fact
from agent.snmp import metrics
from agent.snmp.facts import facts
from collectors import snmp, syslog, traps


def test_who_it_is_what_reads_it_and_which_ports_are_down() -> None:
    ports = [metrics.UP(float(n < 2), f"ether{n}") for n in range(12)]
    unwanted = [metrics.ENABLED(float(n != 2), f"ether{n}") for n in range(12)]
    who = metrics.DEVICE_INFO(1.0, "gw", "RB750Gr3", "7.12.1", "")
    read = [metrics.PROFILE_INFO(1.0, name) for name in ("interfaces", "system")]
    found = facts([who, *read, metrics.UPTIME(90.0), *ports, *unwanted, metrics.SERIES_CAPPED(23.0)])
    assert found == (
        Fact("name", "gw"), Fact("model", "RB750Gr3"), Fact("version", "7.12.1"), Fact("uptime", number=90.0),
        Fact("profiles", "interfaces, system"), Fact("down", "ether3, ether4, ether5, ether6, ether7, ether8 +3"), Fact("capped", "23"),
    )  # fmt: skip
    assert {fact.key for fact in found} <= texts.FACTS.keys()


def test_what_is_well_is_not_said_and_a_look_that_heard_nothing_says_nothing() -> None:
    assert facts([metrics.SERIES_CAPPED(0.0), metrics.UP(1.0, "ether1")]) == ()
    assert facts([metrics.RESTARTS(2.0)]) == ()
    assert snmp.KIND.facts is facts


def test_who_was_heard_last_stands_first_and_of_logs_also_who_never_was() -> None:
    heard = [syslog.MESSAGES(float(n), name) for n, name in enumerate(("ups", "router", "switch-1"))]
    last = [syslog.LAST(100.0, "router"), syslog.LAST(200.0, "switch-1")]
    assert syslog.facts([*heard, *last]) == (Fact("log", "switch-1", 200.0), Fact("log", "router", 100.0), Fact("log", "ups", 0.0))
    assert traps.facts([traps.LAST(1.0, "ups"), traps.LAST(2.0, "router")]) == (Fact("trap", "router", 2.0), Fact("trap", "ups", 1.0))
