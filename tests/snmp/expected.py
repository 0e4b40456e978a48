"""What each recording says, read a second time: straight from its rows by OIDs written here, for test_recordings.py to compare.

Law: nothing of the agent's is imported, and no profile read: who wrote an OID or a unit wrong there must not find it confirmed here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from tests.snmp.recording import Oid, Row, oid

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
Facts: TypeAlias = Iterator[tuple[str, dict[str, str], float]]

APC, MIKROTIK, CISCO, AIRMAX, UPS, TPLINK = (
    "1.3.6.1.4.1.318.1.1.",
    "1.3.6.1.4.1.14988.1.1.",
    "1.3.6.1.4.1.9.9.",
    "1.3.6.1.4.1.41112.1.4.",
    "1.3.6.1.2.1.33.1.",
    "1.3.6.1.4.1.11863.6.",
)
MIB2, UCD, EXTEND = "1.3.6.1.2.1.", "1.3.6.1.4.1.2021.", "1.3.6.1.4.1.8072.1.3.2."


class Reading:
    """A recording's rows, by OIDs as text."""

    def __init__(self, rows: Mapping[Oid, Row]) -> None:
        self.rows = rows

    def text(self, at: str) -> str:
        value = self.rows[oid(at)].value
        assert isinstance(value, bytes)
        return value.decode("utf-8", "replace")

    def number(self, at: str) -> float:
        value = self.rows[oid(at)].value
        assert not isinstance(value, tuple)
        return float(value)

    def column(self, at: str) -> dict[str, Row]:
        """Index, as text → row, of all that is below."""
        base = oid(at)
        return {".".join(map(str, name[len(base) :])): row for name, row in self.rows.items() if name[: len(base)] == base}

    def numbers(self, at: str) -> dict[str, float]:
        return {index: float(row.value) for index, row in self.column(at).items() if not isinstance(row.value, tuple)}

    def names(self) -> dict[str, str]:
        """ifIndex → ifName; ifDescr where the interface has none."""
        columns = self.column(MIB2 + "2.2.1.2") | self.column(MIB2 + "31.1.1.1.1")
        return {index: row.value.decode("utf-8", "replace") for index, row in columns.items() if isinstance(row.value, bytes)}


def extended(name: str) -> str:
    return ".".join(map(str, [len(name), *name.encode()]))


def states(metric: str, names: str, now: str) -> Facts:
    for name in names.split():
        yield metric, {"status": name}, float(name == now)


# -- interfaces ---------------------------------------------------------------------------------------------------------------------

VIRTUAL = {1, 24, 53, 131, 135, 136, 142, 150, 166, 209}  # ifType of what has no plug: other, loopback, tunnel, VLAN, bridge, ...


def shown(r: Reading, everything: bool = False) -> dict[str, str]:
    """ifIndex → name of those that are shown without any rule: up (or not said), with a plug, and nobody's session."""
    oper, kinds = r.numbers(MIB2 + "2.2.1.8"), r.numbers(MIB2 + "2.2.1.3")
    alive = {i for i in r.names() if everything or oper.get(i, 4) in (1, 4, 5)}
    return {
        i: name for i, name in r.names().items() if i in alive and not name.startswith("<") and (everything or kinds.get(i) not in VIRTUAL)
    }


def interfaces(r: Reading, which: Mapping[str, str]) -> Facts:
    """All of IF-MIB that is told of them; in 64 bit where the device has it."""

    def both(wide: int | None, narrow: int) -> dict[str, float]:
        return r.numbers(f"{MIB2}2.2.1.{narrow}") | (r.numbers(f"{MIB2}31.1.1.1.{wide}") if wide else {})

    counted = {
        "receive_bytes": both(6, 10),
        "transmit_bytes": both(10, 16),
        "receive_packets": both(7, 11),
        "transmit_packets": both(11, 17),
        "receive_errors": both(None, 14),
        "transmit_errors": both(None, 20),
        "receive_discards": both(None, 13),
        "transmit_discards": both(None, 19),
    }
    oper, admin = r.numbers(MIB2 + "2.2.1.8"), r.numbers(MIB2 + "2.2.1.7")
    slow, fast = r.numbers(MIB2 + "2.2.1.5"), r.numbers(MIB2 + "31.1.1.1.15")
    for index, name in which.items():
        for what, column in counted.items():
            if index in column:
                yield f"interface_{what}_total", {"interface": name}, column[index]
        if oper.get(index, 4) != 4:
            yield "interface_up", {"interface": name}, float(oper[index] == 1)
        if index in admin:
            yield "interface_enabled", {"interface": name}, float(admin[index] == 1)
        if speed := fast.get(index, 0) * 125_000 or slow.get(index, 0) / 8 * (slow.get(index) != 4294967295):
            yield "interface_speed_bytes", {"interface": name}, speed


# -- what many devices have ---------------------------------------------------------------------------------------------------------


def duplex(r: Reading) -> Facts:
    for index, value in r.numbers(MIB2 + "10.7.2.1.19").items():
        if value in (2, 3):
            yield "interface_full_duplex", {"interface": r.names()[index]}, float(value == 3)


def macs(r: Reading) -> dict[str, str]:
    """MAC → port, each once, but for the bridge's own: by VLAN where it says so."""
    base = MIB2 + ("17.7.1.2.2.1." if r.column(MIB2 + "17.7.1.2.2.1.2") else "17.4.3.1.")
    own = {index for index, status in r.numbers(base + "3").items() if status == 4}
    interface = {port: f"{number:.0f}" for port, number in r.numbers(MIB2 + "17.1.4.1.2").items()}
    found: dict[str, str] = {}
    for index, port in r.numbers(base + "2").items():
        if port > 0 and index not in own:
            number = interface.get(f"{port:.0f}", f"{port:.0f}")
            mac = ":".join(f"{int(n):02x}" for n in index.split(".")[-6:])
            found.setdefault(mac, r.names().get(number, number))
    return found


def arp(r: Reading) -> dict[str, str]:
    """Address → MAC, of the older table and then of the newer, but for what the device calls invalid."""
    found: dict[str, str] = {}
    invalid = {index for index, kind in r.numbers(MIB2 + "4.22.1.4").items() if kind == 2}
    for base, skip in ((MIB2 + "4.22.1.2", 1), (MIB2 + "4.35.1.4", 3)):
        for index, row in r.column(base).items():
            assert isinstance(row.value, bytes)
            if len(row.value) == 6 and any(row.value) and index not in invalid:
                found.setdefault(".".join(index.split(".")[skip:]), row.value.hex(":"))
    return found


def entries(r: Reading) -> Facts:
    yield "bridge_entries", {}, len(macs(r))


def processors(r: Reading) -> Facts:
    for index, value in r.numbers(MIB2 + "25.3.3.1.2").items():
        yield "cpu_ratio", {"cpu": index}, value / 100


def memory(r: Reading, row: str) -> Facts:
    unit = r.number(f"{MIB2}25.2.3.1.4.{row}")
    yield "memory_size_bytes", {}, r.number(f"{MIB2}25.2.3.1.5.{row}") * unit
    yield "memory_used_bytes", {}, r.number(f"{MIB2}25.2.3.1.6.{row}") * unit


def disk(r: Reading, row: str, name: str) -> Facts:
    unit = r.number(f"{MIB2}25.2.3.1.4.{row}")
    yield "storage_size_bytes", {"storage": name}, r.number(f"{MIB2}25.2.3.1.5.{row}") * unit
    yield "storage_used_bytes", {"storage": name}, r.number(f"{MIB2}25.2.3.1.6.{row}") * unit


# -- devices ------------------------------------------------------------------------------------------------------------------------


def apc_new(r: Reading) -> Facts:
    yield "ups_on_battery", {}, 0
    yield from states("ups_status", APC_STATES, "online")
    yield "ups_charge_ratio", {}, r.number(APC + "1.2.3.1.0") / 1000
    yield "temperature_celsius", {"sensor": "battery"}, r.number(APC + "1.2.3.2.0") / 10
    yield "voltage_volts", {"sensor": "battery"}, r.number(APC + "1.2.3.4.0") / 10
    yield "ups_runtime_seconds", {}, r.number(APC + "1.2.2.3.0") / 100
    yield "ups_battery_replace", {}, 0
    yield "ups_input_volts", {}, r.number(APC + "1.3.3.1.0") / 10
    yield "ups_output_volts", {}, r.number(APC + "1.4.3.1.0") / 10
    yield "ups_load_ratio", {}, r.number(APC + "1.4.3.3.0") / 1000
    yield "current_amperes", {"sensor": "output"}, r.number(APC + "1.4.3.4.0") / 10
    yield "temperature_celsius", {"sensor": "Equipment Room"}, r.number(APC + "25.1.2.1.6.1.1")


APC_STATES = (
    "unknown online battery boost sleeping bypass off rebooting switched_bypass fault_bypass "
    "waiting_for_power trim eco hot_standby battery_test emergency_bypass"
)


def apc_old(r: Reading) -> Facts:
    yield "ups_on_battery", {}, 0  # a self-test
    yield from states("ups_status", APC_STATES, "battery_test")
    yield "ups_charge_ratio", {}, 1
    yield "temperature_celsius", {"sensor": "battery"}, 29
    yield "voltage_volts", {"sensor": "battery"}, 27
    yield "ups_runtime_seconds", {}, 2040
    yield "ups_battery_replace", {}, 1
    yield "ups_input_volts", {}, 226
    yield "ups_output_volts", {}, 225
    yield "ups_load_ratio", {}, 0.41
    yield "current_amperes", {"sensor": "output"}, 2
    yield "temperature_celsius", {"sensor": "ruang server"}, 27
    yield "humidity_ratio", {"sensor": "ruang server"}, 0.61
    yield "humidity_ratio", {"sensor": "rak"}, 0.40  # its degrees are Fahrenheit


def edgeswitch(r: Reading) -> Facts:
    yield from processors(r)
    yield "load1", {}, r.number(UCD + "10.1.5.1") / 100
    yield from duplex(r)
    yield from entries(r)


def ios(r: Reading) -> Facts:
    yield "memory_used_bytes", {}, r.number(CISCO + "48.1.1.1.5.1")
    yield "memory_free_bytes", {}, r.number(CISCO + "48.1.1.1.6.1")
    yield "cpu_ratio", {"cpu": "1"}, r.number(CISCO + "109.1.1.1.1.7.1") / 100
    for switch in ("1", "2", "3"):
        yield "temperature_celsius", {"sensor": f"SW#{switch}, Sensor#1"}, r.number(f"{CISCO}13.1.3.1.3.{switch}008")
        yield "sensor_ok", {"sensor": f"SW#{switch}, Sensor#1"}, float(r.number(f"{CISCO}13.1.3.1.6.{switch}008") == 1)
        yield "sensor_ok", {"sensor": f"Switch#{switch}, Fan#1"}, float(r.number(f"{CISCO}13.1.4.1.3.{switch}007") == 1)
        yield "sensor_ok", {"sensor": f"Sw{switch}, PS1"}, float(r.number(f"{CISCO}13.1.5.1.3.{switch}006") == 1)
    yield from duplex(r)
    yield from entries(r)


def jetstream(r: Reading) -> Facts:
    yield from duplex(r)
    yield from entries(r)


def nut(r: Reading) -> Facts:
    line = EXTEND + "4.1.2." + extended("ups-nut") + "."
    yield "ups_charge_ratio", {}, r.number(line + "1") / 100
    yield "ups_runtime_seconds", {}, r.number(line + "3")
    yield "voltage_volts", {"sensor": "battery"}, r.number(line + "4")
    yield "ups_input_volts", {}, r.number(line + "7")
    yield "ups_load_ratio", {}, r.number(line + "8") / 100
    yield "ups_on_battery", {}, r.number(line + "10")
    yield "ups_battery_replace", {}, r.number(line + "13")


def openwrt(r: Reading) -> Facts:
    yield from processors(r)
    yield from memory(r, "1")
    for row, name in (("31", "/rom"), ("33", "/overlay"), ("34", "/"), ("35", "/tmp/syscfg")):
        yield from disk(r, row, name)
    yield "load1", {}, r.number(UCD + "10.1.5.1") / 100
    for radio in ("wlan0", "wlan1"):

        def said(what: str, radio: str = radio) -> float:
            return r.number(EXTEND + "3.1.1." + extended(what.format(radio)))

        yield "wireless_clients", {"interface": radio}, said("clients-{}")
        yield "wireless_frequency_hertz", {"interface": radio}, said("frequency-{}") * 1e6
        yield "wireless_noise_dbm", {"interface": radio}, said("noise-floor-{}")
        yield "wireless_transmit_rate_bytes", {"interface": radio}, said("rate-tx-{}-avg") / 8
        yield "wireless_receive_rate_bytes", {"interface": radio}, said("rate-rx-{}-avg") / 8


def routeros(r: Reading) -> Facts:
    yield from processors(r)
    yield from memory(r, "65536")
    yield from disk(r, "131072", "system disk")
    yield "voltage_volts", {"sensor": "voltage"}, r.number(MIKROTIK + "3.8.0") / 10
    yield "temperature_celsius", {"sensor": "temperature"}, r.number(MIKROTIK + "3.10.0") / 10
    yield "dhcp_leases", {}, r.number(MIKROTIK + "6.1.0")
    yield "ppp_sessions", {}, 0
    yield "poe_power_watts", {"interface": "ether5"}, 0
    for index, interface in (("1", "wlan1"), ("2", "wlan2"), ("8", "wlan3"), ("9", "wlan4")):
        yield "wireless_clients", {"interface": interface}, r.number(f"{MIKROTIK}1.3.1.6.{index}")
    for index, interface in (("1", "wlan1"), ("2", "wlan2")):  # 3 and 4 are virtual
        yield "wireless_noise_dbm", {"interface": interface}, r.number(f"{MIKROTIK}1.3.1.9.{index}")
        yield "wireless_ccq_ratio", {"interface": interface}, r.number(f"{MIKROTIK}1.3.1.10.{index}") / 100
    yield "wireless_signal_dbm", {"interface": "wlan4"}, -77
    # this recording was put together from several boxes: its wlan1 is a 60 GHz radio as well, which is told first
    yield "wireless_signal_dbm", {"interface": "wlan1"}, r.number(MIKROTIK + "1.8.1.12.1")
    yield "wireless_frequency_hertz", {"interface": "wlan1"}, r.number(MIKROTIK + "1.8.1.6.1") * 1e6
    yield "wireless_frequency_hertz", {"interface": "wlan2"}, 5805e6
    yield "wireless_transmit_rate_bytes", {"interface": "wlan1"}, 2310e6 / 8
    yield "temperature_celsius", {"sensor": "sfp1"}, r.number(MIKROTIK + "19.1.1.6.25")
    yield from entries(r)


def rb750gr3(r: Reading) -> Facts:
    yield from processors(r)
    yield from memory(r, "65536")
    yield from disk(r, "131072", "system disk")
    yield "voltage_volts", {"sensor": "voltage"}, r.number(MIKROTIK + "3.100.1.3.13") / 10
    yield "temperature_celsius", {"sensor": "temperature"}, r.number(MIKROTIK + "3.100.1.3.14")
    yield "dhcp_leases", {}, r.number(MIKROTIK + "6.1.0")
    yield "ppp_sessions", {}, 0
    yield from entries(r)


def mikrotik_lte(r: Reading) -> Facts:
    yield "temperature_celsius", {"sensor": "cpu-temperature"}, 47
    yield "fan_rpm", {"sensor": "fan1-speed"}, 4120
    yield "voltage_volts", {"sensor": "voltage"}, 11.9
    yield "current_amperes", {"sensor": "poe-out-current"}, 1.2
    yield "current_amperes", {"sensor": "current"}, 0.25
    yield "power_watts", {"sensor": "power-consumption"}, 5.6
    yield "dhcp_leases", {}, 14
    yield "ppp_sessions", {}, 3
    yield "lte_rssi_dbm", {"interface": "lte1"}, -67
    yield "lte_rsrq_db", {"interface": "lte1"}, -11
    yield "lte_rsrp_dbm", {"interface": "lte1"}, -98
    yield "lte_sinr_db", {"interface": "lte1"}, 0
    for index, queue in (("16777217", "kantor"), ("16777218", "tamu")):
        for column, metric, way in ((8, "bytes", "in"), (9, "bytes", "out"), (14, "drops", "in"), (15, "drops", "out")):
            yield f"queue_{metric}_total", {"queue": queue, "direction": way}, r.number(f"{MIKROTIK}2.1.1.{column}.{index}")
    yield "queue_bytes_total", {"queue": "voip", "direction": "out"}, 4294967419
    yield "queue_drops_total", {"queue": "voip", "direction": "out"}, 5
    yield "wireless_transmit_rate_bytes", {"interface": "wlan2"}, 144.4e6 / 8
    yield "wireless_receive_rate_bytes", {"interface": "wlan2"}, 130e6 / 8
    yield "wireless_signal_dbm", {"interface": "wlan2"}, -61
    yield "wireless_frequency_hertz", {"interface": "wlan2"}, 5180e6
    yield "wireless_ccq_ratio", {"interface": "wlan2"}, 0.93
    yield "wireless_clients", {"interface": "wlan1"}, 3
    yield "wireless_frequency_hertz", {"interface": "wlan1"}, 2437e6
    yield "wireless_noise_dbm", {"interface": "wlan1"}, -104
    yield "wireless_ccq_ratio", {"interface": "wlan1"}, 0.81
    yield "wireless_signal_dbm", {"interface": "wlan1"}, -83


def mikrotik_old(r: Reading) -> Facts:
    for sensor, volts in (("core-voltage", 1.2), ("3.3v", 3.3), ("5v", 5), ("12v", 12.1), ("voltage", 24.1)):
        yield "voltage_volts", {"sensor": sensor}, volts
    for sensor, degrees in (("sensor-temperature", 38.5), ("board-temperature", 42), ("temperature", 36.5), ("cpu-temperature", 51.5)):
        yield "temperature_celsius", {"sensor": sensor}, degrees
    yield "power_watts", {"sensor": "power-consumption"}, 43.8
    yield "current_amperes", {"sensor": "current"}, 1.815
    yield "sensor_ok", {"sensor": "psu1-state"}, 1
    yield "sensor_ok", {"sensor": "psu2-state"}, 0
    yield "fan_rpm", {"sensor": "fan1-speed"}, 3950
    yield "fan_rpm", {"sensor": "fan2-speed"}, 0
    yield "wireless_clients", {"interface": "cap1"}, 11
    yield "wireless_clients", {"interface": "cap2"}, 0
    yield "optical_transmit_dbm", {"interface": "sfp1"}, -4.879  # sfp2 has no diagnostics
    yield "optical_receive_dbm", {"interface": "sfp1"}, -5.673
    yield "temperature_celsius", {"sensor": "sfp1"}, 41


def airos(r: Reading) -> Facts:
    radio = {"interface": "ath0"}
    yield "wireless_frequency_hertz", radio, 5745e6
    yield "wireless_distance_meters", radio, 4200
    yield "wireless_signal_dbm", radio, -59
    yield "wireless_ccq_ratio", radio, 0.98
    yield "wireless_noise_dbm", radio, -95
    yield "wireless_transmit_rate_bytes", radio, 130e6 / 8
    yield "wireless_receive_rate_bytes", radio, 117e6 / 8
    yield "wireless_clients", radio, 1
    yield "wireless_airmax_quality_ratio", radio, 0.91
    yield "wireless_airmax_capacity_ratio", radio, 0.83
    yield "wireless_airtime_ratio", radio, 0.125
    yield "load1", {}, 0.42
    yield "memory_size_bytes", {}, 62216 * 1024
    yield "memory_free_bytes", {}, 31004 * 1024


def ups_rfc1628(r: Reading) -> Facts:
    yield "ups_on_battery", {}, 1
    yield from states("ups_status", "unknown off online bypass battery boost trim", "battery")
    yield "ups_runtime_seconds", {}, 27 * 60
    yield "ups_charge_ratio", {}, 0.76
    yield "voltage_volts", {"sensor": "battery"}, 81.1
    yield "current_amperes", {"sensor": "battery"}, -3.4
    yield "temperature_celsius", {"sensor": "battery"}, 31
    yield "ups_input_volts", {}, 3
    yield "voltage_volts", {"sensor": "input-2"}, 221
    yield "voltage_volts", {"sensor": "input-3"}, 219
    yield "ups_output_volts", {}, 230
    yield "voltage_volts", {"sensor": "output-2"}, 229
    yield "voltage_volts", {"sensor": "output-3"}, 231
    yield "current_amperes", {"sensor": "output"}, 4.6
    yield "power_watts", {"sensor": "output"}, 940
    yield "ups_load_ratio", {}, 0.38


def tplink(r: Reading) -> Facts:
    yield "memory_used_ratio", {}, 0.63
    yield "cpu_ratio", {"cpu": "1"}, 0.12
    for port, duplex_is in ((1, 1.0), (2, 0.0)):  # the others have none
        yield "interface_full_duplex", {"interface": f"gigabitEthernet 1/0/{port}"}, duplex_is
    for port in (1, 2, 3, 4):
        for error, count in (("alignment", port), ("fcs", 10 * port), ("late_collision", 100 * port), ("symbol", port - 1)):
            yield "interface_ether_errors_total", {"interface": f"gigabitEthernet 1/0/{port}", "error": error}, count
    yield "bridge_entries", {}, 3  # one of them in two VLANs


def linux(r: Reading) -> Facts:
    yield "memory_size_bytes", {}, 1_000_000 * 1024
    yield "memory_used_bytes", {}, 400_000 * 1024
    yield "memory_free_bytes", {}, 123_456 * 1024
    yield "storage_size_bytes", {"storage": "/"}, 7_500_000 * 4096
    yield "storage_used_bytes", {"storage": "/"}, 2_500_000 * 4096
    yield "cpu_ratio", {"cpu": "196608"}, 0.07
    yield "cpu_ratio", {"cpu": "196609"}, 1
    yield "load1", {}, 2.15
    yield "ups_charge_ratio", {}, 0.87
    yield "ups_runtime_seconds", {}, 1260
    yield "voltage_volts", {"sensor": "battery"}, 26.9
    yield "ups_load_ratio", {}, 0.33  # its input is "Unknown"
    yield "ups_on_battery", {}, 1
    yield "ups_battery_replace", {}, 1
    yield "wireless_clients", {"interface": "wlan0"}, 4
    yield "wireless_frequency_hertz", {"interface": "wlan0"}, 2412e6
    yield "wireless_noise_dbm", {"interface": "wlan0"}, -95
    yield "wireless_transmit_rate_bytes", {"interface": "wlan0"}, 65e6 / 8
    yield "wireless_receive_rate_bytes", {"interface": "wlan0"}, 6e6 / 8


def cisco(r: Reading) -> Facts:
    yield "memory_used_bytes", {}, 21e6
    yield "memory_free_bytes", {}, 9e6
    yield "cpu_ratio", {"cpu": "1"}, 0.17
    yield "temperature_celsius", {"sensor": "SW#1, Sensor#1"}, 66
    yield "sensor_ok", {"sensor": "SW#1, Sensor#1"}, 0
    yield "sensor_ok", {"sensor": "Switch#1, Fan#1"}, 0  # the second fan isn't there
    yield "sensor_ok", {"sensor": "Sw1, PS1"}, 1


FACTS: Mapping[str, Callable[[Reading], Facts]] = {
    "apc_smt750x-nmc2": apc_new,
    "edgeswitch_us-8": edgeswitch,
    "ios_2960x": ios,
    "jetstream_vlans": jetstream,
    "linux_ups-nut": nut,
    "openwrt": openwrt,
    "routeros": routeros,
    "routeros_rb750gr3": rb750gr3,
    "airos": airos,
    "cisco": cisco,
    "linux": linux,
    "apc-old": apc_old,
    "mikrotik-lte": mikrotik_lte,
    "mikrotik-old": mikrotik_old,
    "tplink": tplink,
    "ups-rfc1628": ups_rfc1628,
}
