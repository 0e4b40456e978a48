"""The agent's config: what a file may say, what holds without one, how it is shown."""

import dataclasses

import pytest

from agent.collector import Kind, ProbeConfig, TaskConfig
from agent.config import MAX_TASKS, ConfigError, discover, load_config, schema, show, task_name
from agent.model import Metric
from agent.structure import Text
from collectors import KINDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe(ProbeConfig):
    password: Text = ""
    token_file: Text = ""


TOY = {
    "probe": Kind("probe", Probe, (), lambda _c, _e: None),
    "host": Kind("host", TaskConfig, (Metric("ronda_x", "X.", labels=("mode",)),), lambda _c, _e: None),
}


def load_text(tmp_path, text, kinds=TOY):
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    return load_config(path, kinds)


def errors(tmp_path, text):
    with pytest.raises(ConfigError) as e:
        load_text(tmp_path, text)
    return str(e.value).splitlines()


def test_a_whole_config(tmp_path):
    config = load_text(
        tmp_path,
        "site: dukcapil\noffice: {name: Dukcapil, code: DKC, phone: 0624-1, timezone: Asia/Makassar}\n"
        "collectors:\n  probe: [{target: a, labels: {role: anchor}}, {target: a, source: wan2}]\n  host: [{}]\n"
        "web: {listen: '127.0.0.1:1', lan_page: '0.0.0.0:8080'}\nlog: {level: debug, format: json}\n",
    )

    assert [task_name(k, t) for k, t in config.tasks()] == ["probe:a", "probe:a@wan2", "host"]
    assert (config.title, config.code, config.web.lan_page) == ("Dukcapil", "DKC", "0.0.0.0:8080")


def test_an_interval_that_would_be_a_flood_is_refused(tmp_path):
    assert "interval: must not be shorter than 1s" in errors(tmp_path, "collectors: {probe: [{target: a, interval: 1ms}]}")[0]


def test_equal_files_give_equal_tasks(tmp_path):
    text = "collectors: {probe: [{target: a, labels: {b: c}}]}"

    assert list(load_text(tmp_path, text).tasks()) == list(load_text(tmp_path, text).tasks())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("site: Dinas X", 'agent.yaml:1: site: "Dinas X" is not a short name (small letters, digits and hyphens, at most 40)'),
        ("collectors: {prob: []}", "agent.yaml:1: collectors.prob: unknown key (did you mean probe?)"),
        (
            "collectors:\n  probe:\n  - {target: a}\n  - {target: a}",
            'agent.yaml:4: collectors.probe[1]: is the same task as collectors.probe[0] ("probe:a"); give one of them a `name`',
        ),
        (
            "collectors:\n  probe:\n  - {target: a, timeout: 20s}",
            "agent.yaml:3: collectors.probe[0].timeout: must not be longer than the interval (15s)",
        ),
        (
            "collectors:\n  probe:\n  - target: a\n    labels: {site: x}",
            "agent.yaml:4: collectors.probe[0].labels.site: is a name that Ronda itself sets",
        ),
        (
            "collectors: {probe: [{target: 'http://x/'}]}",
            'agent.yaml:1: collectors.probe[0].target: "http://x/" is not a host (a name or an address, without port or path)',
        ),
        (
            "office: {timezone: Asia/Medan}",
            'agent.yaml:1: office.timezone: "Asia/Medan" is not a time zone (try Asia/Jakarta, Asia/Makassar or Asia/Jayapura)',
        ),
        ("office: {timezone: ../../etc/passwd}", None),
        (
            "collectors:\n  host:\n  - {}\n  - {name: again, labels: {role: ''}}",
            "agent.yaml:4: collectors.host[1]: would have the same series as collectors.host[0]; "
            "leave one of them out, or give them different `labels`",
        ),
        (
            "collectors:\n  host:\n  - labels: {mode: x, room: y}",
            "agent.yaml:3: collectors.host[0].labels.mode: is a name that the metrics of host use themselves",
        ),
        ("log: {level: loud}", 'agent.yaml:1: log.level: "loud" is not one of debug, info, warning, error'),
        ("pusch: {url: x}", "agent.yaml:1: pusch: unknown key (did you mean push?)"),
        ("push: {url: x}", "agent.yaml:1: push.url: must begin with http:// or https://"),
    ],
)
def test_each_mistake_has_its_message(tmp_path, text, expected):
    found = errors(tmp_path, text)

    assert len(found) == 1
    assert expected is None or found == [expected]


def test_an_agent_takes_so_many_tasks_and_no_more(tmp_path):
    listed = ", ".join(f"{{target: a{i}}}" for i in range(MAX_TASKS + 1))

    assert "2001 tasks; an agent takes at most 2000" in errors(tmp_path, f"collectors: {{probe: [{listed}]}}")[0]


def test_without_tasks_the_box_itself_says_what_to_watch():
    found = discover(KINDS, ["192.0.2.1"], ["192.0.2.53", "192.0.2.54"])
    names = [task_name(k, t) for k, t in found.tasks()]

    assert {"icmp:gateway", "icmp:1.1.1.1", "icmp:8.8.8.8", "icmp:9.9.9.9", "link", "host"} <= set(names)
    assert len([n for n in names if n.startswith("dns:192.0.2.5")]) == 2
    assert "icmp:gateway" not in [task_name(k, t) for k, t in discover(KINDS, [], []).tasks()]


def test_shown_with_defaults_and_without_secrets(tmp_path):
    config = load_text(tmp_path, "collectors: {probe: [{target: a, password: hunter2, token_file: /etc/ronda/token}]}")
    text = show(config)

    assert "hunter2" not in text
    assert "password: <secret>" in text
    assert "token_file: /etc/ronda/token" in text
    assert "interval: 15.0" in text


@pytest.mark.parametrize(
    "name", ["X-Auth-Token", "X-Api-Key", "apikey", "Ocp-Apim-Subscription-Key", "X-Passwd", "Cookie", "Authorization"]
)
def test_a_header_that_is_a_secret_is_not_shown(name):
    config = KINDS["http"].config(target="http://192.0.2.1/", headers={name: "hunter2", "Accept": "text/html"})

    assert "hunter2" not in show(config)
    assert "text/html" in show(config)


def test_a_password_in_a_url_is_not_shown():
    @dataclasses.dataclass(frozen=True)
    class Proxy:
        proxy: str = "http://user:pw@192.0.2.1:3128/"

    assert "pw" not in show(Proxy())


def test_the_schema_takes_every_kind():
    assert {f.name for f in dataclasses.fields(type(schema(KINDS)().collectors))} == set(KINDS)


def test_a_timeout_that_nobody_chose_follows_a_shorter_interval(tmp_path):
    made = [t.timeout for _, t in load_text(tmp_path, "collectors: {probe: [{target: a, interval: 2s}, {target: b}]}").tasks()]

    assert made == [2.0, 5.0]
    assert KINDS["icmp"].config(target="a").timeout == 5.0


def test_labels_may_tell_two_tasks_without_a_target_apart(tmp_path):
    assert len(list(load_text(tmp_path, "collectors: {host: [{}, {name: b, labels: {part: b}}]}").tasks())) == 2
