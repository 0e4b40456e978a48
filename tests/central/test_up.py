"""`ronda central up`: what it says when something is missing, and the real programs started, reloaded, lost and ended."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from central import programs
from central.programs import Refused


def test_what_is_missing_is_said_with_the_package_that_has_it() -> None:
    with pytest.raises(Refused) as refused:
        programs.find(lambda name: f"/usr/bin/{name}" if name in ("prometheus", "promtool") else None)
    text = str(refused.value)
    assert "prometheus-alertmanager: sends the messages" in text
    assert "amtool" in text
    assert "promtool" not in text
    assert "apt install --no-install-recommends prometheus-alertmanager\n" in text


def test_alertmanager_is_found_under_both_its_names() -> None:
    def upstream(name: str) -> str | None:
        return None if name == "prometheus-alertmanager" else f"/opt/{name}"

    assert programs.find(upstream)["alertmanager"] == "/opt/alertmanager"
    assert programs.find(lambda name: f"/usr/bin/{name}")["alertmanager"] == "/usr/bin/prometheus-alertmanager"


def test_grafana_is_taken_only_with_its_home(tmp_path: Path) -> None:
    binary = tmp_path / "bin/grafana"
    binary.parent.mkdir()
    binary.touch()

    def which(name: str) -> str | None:
        return str(binary) if name == "grafana" else None

    assert programs.find_grafana(lambda name: None) is None
    assert programs.find_grafana(which, homes=()) is None
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/defaults.ini").touch()
    assert programs.find_grafana(which, homes=()) == (str(binary), str(tmp_path))


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_in_use_is_said_with_the_way_out(taken: str) -> None:
    with pytest.raises(Refused) as refused:
        programs.refuse_busy({"prometheus": taken, "alertmanager": "127.0.0.1:0"})
    assert f"{taken}: is in use" in str(refused.value)
    assert "--prometheus.listen 127.0.0.1:" in str(refused.value)
    assert "alertmanager" not in str(refused.value)


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(Refused, match=r"192\.0\.2\.1:9090: Cannot assign requested address"):
        programs.refuse_busy({"prometheus": "192.0.2.1:9090"})


@pytest.mark.parametrize(
    ("listen", "reached"),
    [(":9090", "127.0.0.1:9090"), ("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:9090", "[::1]:9090"), ("192.0.2.10:80", "192.0.2.10:80")],
)
def test_where_a_listen_address_is_reached(listen: str, reached: str) -> None:
    assert programs.url(listen, "/x") == f"http://{reached}/x"


def test_grafana_shows_without_a_login_and_changes_nothing() -> None:
    child = programs.grafana(
        "/usr/sbin/grafana-server", "/usr/share/grafana", Path("r"), Path("d"), "127.0.0.1:3000", "http://127.0.0.1:9090"
    )
    assert child.command == ("/usr/sbin/grafana-server", "--homepath", "/usr/share/grafana")
    assert child.env["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert child.env["GF_PATHS_PROVISIONING"] == "r/grafana/provisioning"
    newer = programs.grafana("/usr/bin/grafana", "/usr/share/grafana", Path("r"), Path("d"), "127.0.0.1:3000", "")
    assert newer.command[1] == "server"
