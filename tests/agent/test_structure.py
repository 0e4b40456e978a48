"""YAML to dataclasses: every error at once, each with its line and a message that says what to do."""

import contextlib
import dataclasses
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.structure import ConfigError, Duration, Listen, Regex, Size, Slug, load, loads, parse, parse_duration, parse_size
from tests.fuzz import fuzz


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    target: str
    interval: Duration = 15.0
    count: int = 1
    ratio: float = 0.5
    on: bool = True
    kind: Literal["a", "b"] = "a"
    labels: dict[Slug, str] = dataclasses.field(default_factory=dict)
    note: str | None = None
    pattern: Regex = ""

    def problems(self):
        if self.count > 5:
            yield "count", "is more than 5"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    site: Slug = "x"
    listen: Listen = "127.0.0.1:1"
    size: Size = 1
    items: list[Inner] = dataclasses.field(default_factory=list)
    one: Inner | None = None


def errors(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as e:
        loads(text.encode() if isinstance(text, str) else text, Outer, "f.yaml")
    return str(e.value).splitlines()


def test_a_whole_file_is_read():
    made = loads(
        b"site: dukcapil\nsize: 64MiB\nitems:\n- {target: no, interval: 1h30m, count: 3, ratio: 1e-3, on: off, kind: b, labels: {a: 012}}\n"
        b"- target: 12:34:56\none: {target: 'null', note: ~}\n",
        Outer,
        "f.yaml",
    )

    assert made.items[0] == Inner(target="no", interval=5400.0, count=3, ratio=0.001, on=False, kind="b", labels={"a": "012"})
    assert made.items[1].target == "12:34:56"
    assert made.one == Inner(target="null", note=None)
    assert made.size == 64 << 20


def test_an_empty_file_is_all_defaults():
    assert loads(b"", Outer, "f") == loads(b"# only this\n", Outer, "f") == Outer()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("items: [{target: a, interval: 1 minit}]", 'f.yaml:1: items[0].interval: "1 minit" is not a duration (try 60s)'),
        ("items: [{target: a, interval: 15}]", 'f.yaml:1: items[0].interval: "15" is not a duration (try 60s)'),
        ("\nsites: a", "f.yaml:2: sites: unknown key (did you mean site?)"),
        ("qqq: a", "f.yaml:1: qqq: unknown key (known: site, listen, size, items, one)"),
        ("site: a\nsite: b", "f.yaml:2: site: stands twice (first on line 1)"),
        ("items:\n- interval: 1s", "f.yaml:2: items[0].target: is missing"),
        ("items: {target: a}", "f.yaml:1: items: must be a list, is a mapping"),
        ("one: [a]", "f.yaml:1: one: must be a mapping (key: value), is a list"),
        ("site: [a]", "f.yaml:1: site: must be a single value, is a list"),
        ("site:", "f.yaml:1: site: has no value"),
        ("site: A b", 'f.yaml:1: site: "A b" is not a short name (small letters, digits and hyphens, at most 40)'),
        ("listen: 127.0.0.1", 'f.yaml:1: listen: "127.0.0.1" is not an address to listen on (try 127.0.0.1:17663)'),
        ("one: {target: a, count: 1.5}", 'f.yaml:1: one.count: "1.5" is not a whole number'),
        ("one: {target: a, count: 0x1F}", 'f.yaml:1: one.count: "0x1F" is not a whole number'),
        ("one: {target: a, ratio: .inf}", 'f.yaml:1: one.ratio: ".inf" is not a number'),
        ("one: {target: a, on: maybe}", 'f.yaml:1: one.on: "maybe" is neither true nor false'),
        ("one: {target: a, kind: c}", 'f.yaml:1: one.kind: "c" is not one of a, b'),
        ("one: {target: a, count: 6}", "f.yaml:1: one.count: is more than 5"),
        (
            "one: {target: a, pattern: '('}",
            'f.yaml:1: one.pattern: "(" is not a regular expression: missing ), unterminated subpattern at position 0',
        ),
        (
            "one: {target: a, labels: {B!: c}}",
            'f.yaml:1: one.labels.B!: "B!" is not a short name (small letters, digits and hyphens, at most 40)',
        ),
        ("? [a]\n: b", "f.yaml:1: has a key that is not a text"),
        ("<<: {site: a}", "f.yaml:1: <<: unknown key (known: site, listen, size, items, one)"),
        ("just text", "f.yaml:1: must be a mapping (key: value), is a single value"),
        ("a: b: c", "f.yaml:1: is not YAML: mapping values are not allowed in this context"),
        ("a:\n\t- b", "f.yaml:2: is not YAML: found character that cannot start any token"),
        ("site: *x", "f.yaml:1: is not YAML: found undefined alias"),
        ("site: a\n---\nsite: b", "f.yaml:2: is not YAML: but found another document"),
        (b"site: a\nx: \xff", "f.yaml:2: is not UTF-8 text"),
    ],
)
def test_each_mistake_has_its_message(text, expected):
    assert errors(text) == [expected]


def test_all_errors_come_at_once_in_order_of_lines():
    found = errors("size: big\nitems:\n- {target: a, interval: x}\n- {count: z}\nnope: 1\n")

    assert [e.split(":")[1] for e in found] == ["1", "3", "4", "4", "5"]


def test_aliases_cannot_explode():
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    schema = dataclasses.make_dataclass(
        "S", [(f"a{i}", eval("list[" * (i + 1) + "str" + "]" * (i + 1)), dataclasses.field(default_factory=list)) for i in range(9)]
    )

    with pytest.raises(ConfigError, match="too many values"):
        loads(bomb.encode(), schema, "f")


def test_deep_nesting_is_an_error_not_a_crash():
    assert "nested too deeply" in errors("[" * 100_000)[0] or "is not YAML" in errors("[" * 100_000)[0]


def test_a_missing_or_huge_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load(tmp_path / "none.yaml", Outer)
    (tmp_path / "huge.yaml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(ConfigError, match="is larger than 4 MiB"):
        load(tmp_path / "huge.yaml", Outer)
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(tmp_path, Outer)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("1h30m", 5400), ("1.5s", 1.5), ("2w", 1209600)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "1", "s", "-1s", "1 s", "1s ", "99999w", "1sx"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError):
        parse_duration(text)


def test_sizes():
    assert [parse_size(t) for t in ("1B", "3GB", "64MiB", "1.5KiB")] == [1, 3_000_000_000, 64 << 20, 1536]


@fuzz
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="aio:[]{}&*<>-? \n'\"\t#%!|@,", max_size=80).map(str.encode)))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ConfigError):
        assert isinstance(loads(data, Outer, "f"), Outer)


@pytest.mark.parametrize("text", ["pattern: 'a{99999999999999999999}'", f"pattern: '{'(' * 5000}{')' * 5000}'"])
def test_a_pattern_that_python_chokes_on_is_an_error_like_any_other(text):
    assert "is not a regular expression" in errors(f"one:\n  target: a\n  {text}")[0]


@pytest.mark.parametrize("text", ["9" * 400 + "GB", "\u0663GB.", "0B"])
def test_a_size_beyond_measure_is_none(text):
    assert "is not a size" in errors(f"size: {text}")[0]


@pytest.mark.parametrize(
    "text", ["[::1:80", "::1]:80", "a b:80", "x/y:80", "80", ":99999", ":\u0668\u0660", "[[::1]]:80", "a:", f":{'1' * 5000}"]
)
def test_what_is_no_address_to_listen_on(text):
    assert "is not an address to listen on" in errors(f'listen: "{text}"')[0]


@pytest.mark.parametrize("text", ["[::1]:80", ":80", "0.0.0.0:0", "localhost:65535", "[fe80::1%eth0]:80"])
def test_addresses_to_listen_on(text):
    assert loads(f'listen: "{text}"'.encode(), Outer, "f").listen == text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    from_: str
    class_: Literal["a", "b"] = "a"

    def problems(self):
        if self.from_ == "never":
            yield "from", "is never"


class Word:
    """Reads its own node: a word, or a list of words."""

    @classmethod
    def read_node(cls, reader, node, path, depth):
        if isinstance(node.value, str):
            return node.value
        return [reader.read(n, str, f"{path}[{i}]", depth + 1) for i, n in enumerate(node.value)]


def test_a_field_with_an_underscore_behind_it_has_a_key_without():
    assert loads(b"{from: x, class: b}", Span, "f") == Span(from_="x", class_="b")
    for text, expected in (
        ("a: 1\nfrom_: x", "f:2: from_: unknown key (did you mean from?)"),
        ("class: b", "f:1: from: is missing"),
        ("from: x\nclass: c", 'f:2: class: "c" is not one of a, b'),
        ("class: a\nfrom: never", "f:2: from: is never"),
    ):
        with pytest.raises(ConfigError) as e:
            loads(text.encode(), Span, "f")
        assert expected in str(e.value).splitlines()


def test_a_class_may_read_its_own_node():
    schema = dataclasses.make_dataclass("S", [("one", Word), ("two", Word)])

    assert loads(b"{one: a, two: [b, no]}", schema, "f") == schema("a", ["b", "no"])


def test_a_message_is_one_line_whatever_the_text():
    assert errors('listen: "a\\nb\\L\\e[31m😀"') == [
        r'f.yaml:1: listen: "a\nb\u2028\x1b[31m😀" is not an address to listen on (try 127.0.0.1:17663)'
    ]
    assert errors('"a\\nb": c') == [r"f.yaml:1: a\nb: unknown key (known: site, listen, size, items, one)"]


def test_a_single_text_is_read_as_a_file_reads_it():
    assert parse("90s", Duration) == 90
    with pytest.raises(ValueError, match='"soon" is not a duration'):
        parse("soon", Duration)
