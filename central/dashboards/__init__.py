"""Grafana's dashboards and provisioning: what Kominfo's admins live in.

Law: a dashboard is data made by pure functions; the same inventory gives the same bytes. Every query is run in the lab against real agents
with an injected fault (tests/lab/test_panels.py), or against written-down series of devices (tests/central/test_device_panels.py); a panel
that neither knows fails them.
"""

import json

from central.dashboards import capacity, devices, fleet, monitoring, security, services, site, uplinks
from central.dashboards.panels import Dashboard, Json
from central.inventory import Inventory
from central.target import Target

DASHBOARDS: tuple[Dashboard, ...] = (
    fleet.DASHBOARD,
    site.DASHBOARD,
    uplinks.DASHBOARD,
    capacity.DASHBOARD,
    devices.DASHBOARD,
    services.DASHBOARD,
    monitoring.DASHBOARD,
    security.DASHBOARD,
)
HOME = fleet.DASHBOARD

DATASOURCE = """\
# Rendered by `ronda central render`. Grafana puts the environment's RONDA_PROMETHEUS in, see grafana.env.
apiVersion: 1
datasources:
  - name: Ronda
    uid: ronda-prometheus
    type: prometheus
    access: proxy
    url: $RONDA_PROMETHEUS
    isDefault: true
    editable: false
    jsonData: {httpMethod: POST, timeInterval: 15s}
"""

PROVIDER = """\
# Rendered by `ronda central render`. Grafana puts the environment's RONDA_DASHBOARDS in, see grafana.env.
apiVersion: 1
providers:
  - name: Ronda
    folder: Ronda
    folderUid: ronda
    type: file
    disableDeletion: true
    allowUiUpdates: false
    updateIntervalSeconds: 30
    options: {path: $RONDA_DASHBOARDS}
"""

ENVIRONMENT = """\
# What Grafana's service needs to know, e.g. for /etc/default/grafana-server; `ronda central up` sets it by itself.
# Put this directory (grafana/) at /etc/ronda/grafana, or change the paths.
RONDA_PROMETHEUS=http://{prometheus}
RONDA_DASHBOARDS=/etc/ronda/grafana/dashboards
GF_PATHS_PROVISIONING=/etc/ronda/grafana/provisioning
GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH=/etc/ronda/grafana/dashboards/{home}.json
GF_USERS_DEFAULT_LANGUAGE=id-ID
GF_DATE_FORMATS_DEFAULT_TIMEZONE={timezone}
"""


def files(inventory: Inventory, target: Target) -> dict[str, str]:
    """`grafana/dashboards/*.json`, `grafana/provisioning/…`, and what Grafana's environment must say."""
    zone = inventory.centre.timezone
    made = {f"grafana/dashboards/{d.uid}.json": dump(d.json(zone)) for d in DASHBOARDS}
    return made | {
        "grafana/provisioning/datasources/ronda.yaml": DATASOURCE,
        "grafana/provisioning/dashboards/ronda.yaml": PROVIDER,
        "grafana/grafana.env": ENVIRONMENT.format(prometheus=target.prometheus_address, home=HOME.uid, timezone=zone),
    }


def dump(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"
