"""Prometheus' own files: whom it scrapes, and what the inventory says as series (`prometheus/rules/inventory.yaml`).

Law: names, districts and ISPs live on info series only, and are joined by `site`. What is a matter of time (open, maintenance,
expected) is computed from time() and so the same after any gap. All of it is read by Prometheus 2.42 and by current versions alike.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

from central import rules, yamltext
from central.calendars import NEVER, Calendar, offset
from central.inventory import CENTRE, Inventory, Site
from central.target import Target

Rule = dict[str, Any]
HEADER = "Rendered by `ronda central render` from the inventory. Changes here are lost at the next rendering."
PULLED = "5s"  # between scrapes of an office, and as long as one may take
OUT_OF_ORDER = "7d"  # as old as an agent's buffer keeps: what a site saw while its link was cut is still taken
BACK_AT_WORK = "30m"  # after opening, until an office that switches its power off must be heard
ZONES = {  # what people there say; where none is known: +07:00
    "Asia/Jakarta": "WIB", "Asia/Pontianak": "WIB", "Asia/Makassar": "WITA", "Asia/Ujung_Pandang": "WITA", "Asia/Jayapura": "WIT",
}  # fmt: skip


def files(inventory: Inventory, target: Target) -> dict[str, str]:
    """`prometheus.yml`, the inventory's rules, and the wrapped alerts."""
    own = {
        "prometheus/prometheus.yml": yamltext.dump(config(inventory, target), header=HEADER),
        "prometheus/rules/inventory.yaml": yamltext.dump({"groups": [group(inventory)]}, header=HEADER),
    }
    return own | rules.files(runbooks=target.runbooks or (f"{inventory.centre.url}/runbook" if inventory.centre.url else ""))


def config(inventory: Inventory, target: Target) -> dict[str, Any]:
    """prometheus.yml as a value.

    `rule_query_offset` (2.53 and later) stays at its 0: it would make every page later, and what comes late (a backlog) comes hours
    late; the windows of the rules bridge what is seconds late. So one file serves 2.42 and 3.x.
    """
    return {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "storage": {"tsdb": {"out_of_order_time_window": OUT_OF_ORDER}},
        "rule_files": ["rules/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [target.alertmanager_address]}]}]},
        "scrape_configs": [
            _scrape("prometheus", [(target.prometheus_address, {"site": "pusat"})]),
            _scrape("alertmanager", [(target.alertmanager_address, {"site": "pusat"})]),
            # it speaks of sites (ronda_gateway_chain_mismatches_total): their label holds
            *(
                [{**_scrape("gateway", [(target.gateway_address, {"site": "pusat"})]), "honor_labels": True}]
                if target.gateway_address
                else []
            ),
            *_offices(inventory),
        ],
    }


def _scrape(job: str, targets: list[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    return {"job_name": job, "static_configs": [{"targets": [address], "labels": labels} for address, labels in targets]}


def _offices(inventory: Inventory) -> Iterator[dict[str, Any]]:
    """Offices that are scraped: often, so that a fault doesn't wait for the next scrape; where bytes are counted every 15 s."""
    pulled = {slug: s for slug, s in inventory.active().items() if s.delivery == "pull"}
    near = [(s.address, {"site": slug, "instance": slug}) for slug, s in pulled.items() if s.profile != "metered"]
    yield {**_scrape("ronda", near), "scrape_interval": PULLED, "scrape_timeout": PULLED}
    if metered := [(s.address, {"site": slug, "instance": slug, "job": "ronda"}) for slug, s in pulled.items() if s.profile == "metered"]:
        yield _scrape("ronda_metered", metered)  # a job's name is its own, the label need not be


# -- the inventory as series ------------------------------------------------------------------------------------------------------


def group(inventory: Inventory) -> dict[str, Any]:
    """The group `inventory`: facts first, then what follows from them, in the order of evaluation."""
    return {"name": "inventory", "interval": "15s", "rules": [*_facts(inventory), *_calendars(inventory), *_of_sites(inventory)]}


def _fact(record: str, value: float, **labels: str) -> Rule:
    said = {k: v for k, v in labels.items() if v != ""}
    return {"record": record, **({"labels": said} if said else {}), "expr": f"vector({value:g})" if value < 1e6 else f"vector({value:.0f})"}


def _facts(inventory: Inventory) -> Iterator[Rule]:
    home = inventory.centre.timezone  # the centre's own alerts and the morning's digest go by its clock
    yield _fact("ronda_site_utc_offset_seconds", offset(home), site=CENTRE, code="PST", zone=zone_name(home))
    for slug, site in inventory.sites.items():
        yield _fact("ronda_site_info", 1, **_site_labels(slug, site))
        yield _fact("ronda_site_utc_offset_seconds", offset(site.timezone), site=slug, code=site.code, zone=zone_name(site.timezone))
        for uplink in site.uplinks:
            isp = inventory.isps[uplink.isp].name
            own = {"isp": uplink.isp, "isp_name": isp, "medium": uplink.medium, "customer": uplink.customer}
            yield _fact("ronda_uplink_info", 1, site=slug, uplink=uplink.name, **own)
            if uplink.mbps is not None:
                yield _fact("ronda_uplink_contract_bits_per_second", uplink.mbps * 1e6, site=slug, uplink=uplink.name)
            if uplink.price is not None:
                yield _fact("ronda_uplink_contract_month_rupiah", uplink.price, site=slug, uplink=uplink.name)
            if uplink.interface:
                way = {"task": uplink.device, "interface": uplink.interface}
                yield _fact("ronda_uplink_interface_info", 1, site=slug, uplink=uplink.name, **way)
        yield from _devices(slug, site)
    for key, service in inventory.services.items():
        yield _fact("ronda_service_info", 1, service=key, name=service.name, owner=service.owner)
    for key, provider in inventory.isps.items():
        yield _fact("ronda_isp_info", 1, isp=key, name=provider.name)


def _devices(slug: str, site: Site) -> Iterator[Rule]:
    """What each device is, and its interfaces that must never be down: those that were named, and the uplinks'."""
    for name, device in site.devices.items():
        if device.credentials_file:
            yield _fact("ronda_device_info", 1, site=slug, task=name, device_kind=device.kind)
        ways = {u.interface for u in site.uplinks if u.device == name}
        for interface in sorted({*device.watch, *ways}):
            yield _fact("ronda_device_watched_info", 1, site=slug, task=name, interface=interface)


def _site_labels(slug: str, site: Site) -> dict[str, str]:
    place = {
        k: "" if v is None else f"{v:.6f}".rstrip("0").rstrip(".") for k, v in (("latitude", site.latitude), ("longitude", site.longitude))
    }
    return {
        "site": slug, "name": site.name, "code": site.code, "district": site.district, "class": site.class_, "calendar": site.calendar,
        "delivery": site.delivery, "profile": site.profile, "status": site.status, "timezone": site.timezone, "power": site.power, **place,
    }  # fmt: skip


def zone_name(zone: str) -> str:
    """WIB, WITA, WIT, or the offset: `+05:30`."""
    minutes = abs(offset(zone)) // 60
    return ZONES.get(zone) or f"{'-' if offset(zone) < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def _calendars(inventory: Inventory) -> Iterator[Rule]:
    used = inventory.calendar_zones()
    for calendar in used:
        yield {"record": "ronda_calendar_open", "labels": _of_calendar(calendar), "expr": calendar.promql()}
    dark = {(s.calendar, s.timezone) for s in inventory.active().values() if s.power == "off_after_hours"}
    for calendar in used:
        if (calendar.name, calendar.zone) in dark:
            # a subquery, not min_over_time of the record: the answer does not depend on whether the centre was up at opening time
            back = f"min_over_time((\n{calendar.promql()}\n)[{BACK_AT_WORK}:1m])"
            yield {"record": "ronda_calendar_open_for_30m", "labels": _of_calendar(calendar), "expr": back}
    if any(not calendar.hours.always for calendar in used):
        yield _fact("ronda_calendar_covered_until_timestamp_seconds", _end_of(inventory.covered_until(), inventory.centre.timezone))


def _end_of(day: date, zone: str) -> float:
    """The last second of a day and one more; 0 where no day is known."""
    return 0.0 if day == NEVER else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + 86_400 - offset(zone)


def _of_calendar(calendar: Calendar) -> dict[str, str]:
    return {"calendar": calendar.name, "timezone": calendar.zone}


# -- what follows for each active site --------------------------------------------------------------------------------------------


def _of_sites(inventory: Inventory) -> Iterator[Rule]:
    active = inventory.active()
    if not active:
        return
    yield {"record": "ronda_site_open", "expr": _max(f"{_info()} * on (calendar, timezone) group_left () ronda_calendar_open")}
    yield from _maintenance(inventory, active)
    limits = [f"{_max(_info(delivery=d, profile=p))} * {limit:g}" for (d, p), limit in _limits(inventory, active).items()]
    yield {"record": "ronda_site_silence_limit_seconds", "expr": "\nor\n".join(limits)}
    yield {"record": "ronda_site_expected", "expr": EXPECTED}
    yield {"record": "ronda_site_pages", "expr": PAGES}


def _info(**labels: str) -> str:
    return "ronda_site_info{" + ",".join(f'{k}="{v}"' for k, v in {"status": "active", **labels}.items()) + "}"


def _max(expression: str) -> str:
    """One value a site, also in the moment in which a renamed office has two info series."""
    return f"max by (site) ({expression})"


def _maintenance(inventory: Inventory, active: Mapping[str, Site]) -> Iterator[Rule]:
    planned = {slug: site for slug, site in active.items() if site.maintenance}
    for slug, site in planned.items():
        zone = inventory.zone(slug)
        spans = [m.timestamps(zone) for m in site.maintenance]
        now = " + ".join(f"(time() >= bool {start:.0f}) * (time() < bool {end:.0f})" for start, end in spans)
        yield {"record": "ronda_site_maintenance", "labels": {"site": slug}, "expr": f"vector({now})"}
    others = "ronda_site_info{" + ",".join(['status="active"', *([f'site!~"{"|".join(planned)}"'] if planned else [])]) + "}"
    yield {"record": "ronda_site_maintenance", "expr": f"{_max(others)} * 0"}


def _limits(inventory: Inventory, active: Mapping[str, Site]) -> dict[tuple[str, str], float]:
    """The silence limit by (delivery, profile), which is all that it depends on."""
    return {(site.delivery, site.profile): inventory.silence_limit(slug) for slug, site in sorted(active.items())}


NOT_IN_MAINTENANCE = "on (site) (ronda_site_maintenance == bool 0)"
EXPECTED = f"""\
(
  {_max(_info(power="always"))}
  or
  {_max(_info(power="off_after_hours") + " * on (calendar, timezone) group_left () ronda_calendar_open_for_30m")}
)
* {NOT_IN_MAINTENANCE}"""
PAGES = f"""\
(
  {_max(_info(**{"class": "24-jam"}))}
  or
  {_max('ronda_site_info{status="active",class=~"layanan|kantor"}')} * on (site) ronda_site_open
  or
  {_max(_info(**{"class": "desa"}))} * 0
)
* {NOT_IN_MAINTENANCE}"""
