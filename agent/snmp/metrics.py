"""The vocabulary of devices: every metric that a shipped profile may fill, declared here so that an agent without devices reads no YAML.

Law: base units, as node_exporter names such things; a name once given stays. `task` is the device, so no metric has a label for it.
Rows of a device's tables become label values through agent/snmp/rows.py and poll.py alone, which bound their length and number.
"""

from collections.abc import Mapping

from agent.model import Metric, MetricType

_I, _S = ("interface",), ("sensor",)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"ronda_snmp_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> Metric:
    kind: MetricType = "counter"
    return Metric(f"ronda_snmp_{name}", text, kind, labels)


# -- of the device and of the look at it -------------------------------------------------------------------------------------------
DEVICE_INFO = _gauge("device_info", "Who the device says it is; always 1.", "name", "model", "version", "serial")
PROFILE_INFO = _gauge("profile_info", "A profile that applies to the device; always 1.", "profile")
UPTIME = _gauge("uptime_seconds", "Time since the device was started, as far as it says.")
INTERFACES = _gauge("interfaces", "Interfaces that are shown, left out by rule (filtered), and cut by the cap on series (capped).", "state")
SERIES_CAPPED = _gauge("series_capped", "Series of the last look that were left out because the device has more than `series`.")
REFUSED = _gauge("values_refused", "Values of the last look that were left out: of a wrong type, or no number.")
ROWS_CUT = _gauge("rows_cut", "Tables of the last look that were longer than their profile allows; their first rows are shown.")
TABLE_FAILURES = _counter("table_failures_total", "Tables that could not be read, while the device answered otherwise.", "profile")
RESTARTS = _counter("restarts_total", "Restarts of the device that Ronda noticed.")

# -- interfaces --------------------------------------------------------------------------------------------------------------------
UP = _gauge("interface_up", "Whether the interface carries traffic (ifOperStatus is up).", *_I)
ENABLED = _gauge("interface_enabled", "Whether somebody wants it to (ifAdminStatus is up).", *_I)
SPEED = _gauge("interface_speed_bytes", "What the interface could carry in a second, one way.", *_I)
INTERFACE_INFO = _gauge("interface_info", "What people call the interface, and its type; always 1.", "interface", "description", "type")
DUPLEX = _gauge("interface_full_duplex", "Whether the interface is full duplex; absent where unknown.", *_I)
_WAYS = tuple(
    _counter(f"interface_{way}_{what}_total", text, *_I)
    for way, said in (("receive", "received"), ("transmit", "sent"))
    for what, text in (
        ("bytes", f"Bytes {said}."),
        ("packets", f"Packets {said} that were to one receiver (unicast)."),
        ("errors", f"Packets not {said} because of errors."),
        ("discards", f"Packets not {said} though they had no errors: no room for them."),
    )
)
ETHER_ERRORS = _counter("interface_ether_errors_total", "Errors of the wire, by what was wrong with the frame.", "interface", "error")

# -- the box -----------------------------------------------------------------------------------------------------------------------
_BOX = (
    _gauge("cpu_ratio", "How busy the processor is: 0 to 1.", "cpu"),
    _gauge("load1", "Processes that ran or wanted to, averaged over a minute."),
    _gauge("memory_size_bytes", "Memory of the device."),
    _gauge("memory_used_bytes", "Memory that is used."),
    _gauge("memory_free_bytes", "Memory that is used for nothing."),
    _gauge("memory_used_ratio", "Memory that is used, of a device that says no more than that: 0 to 1."),
    _gauge("storage_size_bytes", "Size of a disk or flash.", "storage"),
    _gauge("storage_used_bytes", "What of it is used.", "storage"),
    _gauge("temperature_celsius", "Temperature that a sensor shows.", *_S),
    _gauge("humidity_ratio", "Humidity that a sensor shows: 0 to 1.", *_S),
    _gauge("voltage_volts", "Voltage that a sensor shows.", *_S),
    _gauge("power_watts", "Power that a sensor shows.", *_S),
    _gauge("current_amperes", "Current that a sensor shows.", *_S),
    _gauge("fan_rpm", "Turns of a fan in a minute.", *_S),
    _gauge("sensor_ok", "Whether the device itself calls the fan, power supply or sensor good.", *_S),
    _gauge("optical_transmit_dbm", "Light that an optical module sends.", *_I),
    _gauge("optical_receive_dbm", "Light that it gets.", *_I),
    _gauge("poe_power_watts", "Power that a port gives to what is plugged in.", *_I),
)

# -- radio and mobile --------------------------------------------------------------------------------------------------------------
_RADIO = (
    _gauge("wireless_signal_dbm", "Strength of the received signal; of an access point: of its weakest client.", *_I),
    _gauge("wireless_noise_dbm", "Noise that the radio hears.", *_I),
    _gauge("wireless_clients", "Clients that are connected.", *_I),
    _gauge("wireless_ccq_ratio", "Quality of the connection as the radio judges it (CCQ): 0 to 1.", *_I),
    _gauge("wireless_frequency_hertz", "Frequency that the radio is on.", *_I),
    _gauge("wireless_distance_meters", "Distance to the other end, as the radio measures it.", *_I),
    _gauge("wireless_airmax_quality_ratio", "Quality of an airMAX link: 0 to 1.", *_I),
    _gauge("wireless_airmax_capacity_ratio", "Capacity of an airMAX link: 0 to 1.", *_I),
    _gauge("wireless_airtime_ratio", "Time that the radio is busy: 0 to 1.", *_I),
    _gauge("wireless_transmit_rate_bytes", "Rate that the radio sends at, bytes in a second.", *_I),
    _gauge("wireless_receive_rate_bytes", "Rate that the radio receives at, bytes in a second.", *_I),
    _gauge("lte_rssi_dbm", "Received signal strength of the modem.", *_I),
    _gauge("lte_rsrp_dbm", "Received power of the cell's reference signal.", *_I),
    _gauge("lte_rsrq_db", "Quality of the cell's reference signal.", *_I),
    _gauge("lte_sinr_db", "Signal against interference and noise.", *_I),
)

# -- what a router does ------------------------------------------------------------------------------------------------------------
_ROUTER = (
    _gauge("ppp_sessions", "PPP sessions (PPPoE, L2TP, ...) that are up."),
    _counter("queue_bytes_total", "Bytes that went through the queue.", "queue", "direction"),
    _counter("queue_drops_total", "Packets that the queue dropped.", "queue", "direction"),
    _gauge("dhcp_leases", "Addresses that the device's DHCP server has lent."),
    _gauge("bridge_entries", "MACs that the bridge knows the port of."),
)

# -- UPS ---------------------------------------------------------------------------------------------------------------------------
_UPS = (
    _gauge("ups_on_battery", "Whether the UPS lives on its battery now."),
    _gauge("ups_charge_ratio", "Charge of the battery: 0 to 1."),
    _gauge("ups_runtime_seconds", "How long the battery will last at this load, as the UPS judges it."),
    _gauge("ups_load_ratio", "Load against what the UPS can bear: 0 to 1."),
    _gauge("ups_input_volts", "Voltage of the mains."),
    _gauge("ups_output_volts", "Voltage that the UPS gives."),
    _gauge("ups_battery_replace", "Whether the UPS wants a new battery."),
    _gauge("ups_status", "State of the UPS: 1 for the one that it is in.", "status"),
)

METRICS = (
    DEVICE_INFO, PROFILE_INFO, UPTIME, INTERFACES, SERIES_CAPPED, REFUSED, ROWS_CUT, TABLE_FAILURES, RESTARTS, UP, ENABLED, SPEED,
    INTERFACE_INFO, DUPLEX, *_WAYS, ETHER_ERRORS, *_BOX, *_RADIO, *_ROUTER, *_UPS,
)  # fmt: skip
SHIPPED: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
ENGINE = frozenset({m.name for m in (DEVICE_INFO, PROFILE_INFO, INTERFACES, SERIES_CAPPED, REFUSED, ROWS_CUT, TABLE_FAILURES, RESTARTS)})
