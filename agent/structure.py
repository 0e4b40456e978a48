"""YAML text → frozen dataclasses, with every error at once and each with file and line.

Law: scalars stay text and are read by the schema, so YAML's `no`, `1e3` and `12:34:56` do no harm. Unknown and duplicate
keys are errors. Nothing is guessed. Input is bounded in size, depth and number of values (aliases can't explode).

A schema is a dataclass. Its fields may be: str, int, float, bool, Literal, dataclass, `T | None`, list[T], dict[str, T], and
Annotated[T, Scalar(...)] for a text with a form of its own. A dataclass may have `problems()`, yielding (field, message)
pairs for what only the whole can tell. A field whose key is a word of Python has an underscore behind it (`from_` reads `from`).
A class with `read_node(reader, node, path, depth)` reads its own node (a value that may be a word or a mapping, say).
"""

import dataclasses
import difflib
import ipaddress
import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import yaml

MAX_BYTES = 4 << 20
MAX_VALUES = 200_000
MAX_DEPTH = 40


class Problem(NamedTuple):
    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(Exception):
    """A file that can't be used; `problems` has all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclasses.dataclass(frozen=True)
class Scalar:
    """How a text is read: `parse` raises ValueError; the message becomes `"text" is not <what> (<hint>)`, or the error's own."""

    what: str
    parse: Callable[[str], Any]
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Later:
    """A schema that is made when a file has such a node: what it takes to read a kind that nobody uses is not even imported."""

    schema: Callable[[], Any]

    def read_node(self, reader: "Reader", node: yaml.Node, path: str, depth: int) -> Any:
        return reader.read(node, self.schema(), path, depth)


UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_duration(text: str) -> float:
    """`1h30m`, `15s`, `500ms` → seconds (> 0)."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError
    seconds = math.fsum(float(n) * UNITS[u] for n, u in parts)
    if not 0 < seconds <= 10 * 365 * 86400:
        raise ValueError
    return seconds


def parse_size(text: str) -> int:
    """`64MiB`, `3GB` → bytes (> 0)."""
    m = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*(B|KB|MB|GB|KiB|MiB|GiB)", text)
    if not m or not (size := int(float(m[1]) * SIZES[m[2]])):
        raise ValueError
    return size


def parse_listen(text: str) -> str:
    """`127.0.0.1:17663`, `[::1]:80`, `:8080` → the same text."""
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    if not re.fullmatch(r"[^\s/\[\]]*", bare) or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or ":" not in text or int(port) > 65535:
        raise ValueError
    return text


@dataclasses.dataclass(frozen=True)
class Matching:
    """The parse of a text that must be all of `pattern`."""

    pattern: str

    def __call__(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError
        return text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError) as e:
        raise ValueError(f"is not a regular expression: {e}") from None
    except RecursionError:
        raise ValueError("is not a regular expression: nested too deeply") from None
    return text


def parse_ip(text: str) -> str:
    """An address as `ipaddress` writes it. Raises ValueError, without Python's words."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError from None


def parse_mac(text: str) -> str:
    """`4C-5E-0C-11-22-33` → `4c:5e:0c:11:22:33`."""
    small = text.lower().replace("-", ":")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", small):
        raise ValueError
    return small


def parse_network(text: str) -> str:
    """`192.0.2.0/24`, `all`. Raises ValueError, without Python's words; bits behind the prefix are a slip of the pen."""
    try:
        return text if text == "all" else str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError from None


Duration = Annotated[float, Scalar("a duration", parse_duration, "try 60s")]
Size = Annotated[int, Scalar("a size", parse_size, "try 64MiB")]
Slug = Annotated[str, Scalar("a short name", Matching(r"[a-z0-9-]{1,40}"), "small letters, digits and hyphens, at most 40")]
Listen = Annotated[str, Scalar("an address to listen on", parse_listen, "try 127.0.0.1:17663")]
Regex = Annotated[str, Scalar("a regular expression", _regex)]
Host = Annotated[str, Scalar("a host", Matching(r"[^\s/@?#\[\]]{1,253}"), "a name or an address, without port or path")]
IpAddress = Annotated[str, Scalar("an address", parse_ip, "e.g. 192.0.2.1")]
Networks = Annotated[str, Scalar("a network", parse_network, "e.g. 192.0.2.0/24, or all")]
Mac = Annotated[str, Scalar("a MAC", parse_mac, "e.g. 4c:5e:0c:11:22:33")]
Source = Annotated[str, Scalar("a source", Matching(r"[A-Za-z0-9_.:-]{0,64}"), "an address or an interface of this box")]
LabelName = Annotated[str, Scalar("a label name", Matching(r"[a-zA-Z][a-zA-Z0-9_]{0,39}"), "letters, digits and _")]
LabelValue = Annotated[str, Scalar("a label value", Matching(r"[^\x00-\x1f]{0,100}"), "at most 100 characters on one line")]
Text = Annotated[str, Scalar("a text", Matching(r"[^\x00-\x08\x0e-\x1f]{0,500}"), "at most 500 characters")]

T = TypeVar("T")
_BOOL = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def load(path: Path, schema: type[T]) -> T:
    """Reads a file into `schema`. Raises ConfigError with all problems, OSError never."""
    return loads(read_bytes(path), schema, path.name)


def read_bytes(path: Path) -> bytes:
    """What the file holds. Raises ConfigError where it can't be read or is too large."""
    try:
        with path.open("rb") as f:
            data = f.read(MAX_BYTES + 1)
    except OSError as e:
        raise ConfigError([Problem(str(path), 0, "", f"can't be read: {e.strerror}")]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem(path.name, 0, "", f"is larger than {MAX_BYTES >> 20} MiB")])
    return data


def loads(data: bytes, schema: type[T], file: str) -> T:
    """Reads YAML bytes into `schema`; `file` names them in messages. Raises ConfigError."""
    reader = Reader(file)
    value = reader.whole(data, schema)
    reader.refuse()
    return typing.cast("T", value)


def compose(data: bytes, file: str) -> yaml.Node | None:
    """YAML's nodes, with their lines. Raises ConfigError."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = data.decode()
        _refuse_depth(text, loader, file)
        node: yaml.Node | None = yaml.compose(text, Loader=loader)
        return node
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise ConfigError([Problem(file, line, "", "is not UTF-8 text")]) from None
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise ConfigError([Problem(file, mark.line + 1 if mark else 0, "", f"is not YAML: {e.problem or e.context}")]) from None
    except yaml.YAMLError as e:
        raise ConfigError([Problem(file, 0, "", f"is not YAML: {e}".replace("\n", " "))]) from None


def _refuse_depth(text: str, loader: Any, file: str) -> None:
    """The C composer recurses without a limit and would crash the process: the depth is counted on the flat events first."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError([Problem(file, event.start_mark.line + 1 if event.start_mark else 0, "", "is nested too deeply")])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


BAD = object()  # a value that could not be read; its problem is noted, the reading goes on


class Reader:
    """Reads nodes by schema and gathers problems.

    lines:  of every path read: what the whole finds wrong is told with its part's line
    values: what was well read, by path; rules that span a file are judged on it even where other parts are wrong
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self._values = 0

    def whole(self, data: bytes, schema: Any) -> Any:
        """The file's value, or BAD with problems noted. Raises ConfigError for what is not even YAML."""
        start = yaml.Mark(self.file, 0, 0, 0, "", 0)
        return self.read(compose(data, self.file) or yaml.MappingNode("", [], start, start), schema, "")

    def refuse(self) -> None:
        """Raises ConfigError with all problems, by line, if there are any."""
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda p: p.line))

    def object(self, path: str, message: str) -> None:
        """Notes a problem at a path that was read."""
        self.problems.append(Problem(self.file, self.line(path), path, message))

    def lies_elsewhere(self, path: str) -> bool:  # noqa: ARG002  (for others to say)
        """Whether what a part's own `problems` says of this path is no matter here: a file on another box, say."""
        return False

    def problem(self, node: yaml.Node, path: str, message: str) -> Any:
        self.problems.append(Problem(self.file, node.start_mark.line + 1, path, message))
        return BAD

    def read(self, node: yaml.Node, schema: Any, path: str, depth: int = 0) -> Any:
        """The value of `node` as `schema`, or BAD with a problem noted."""
        self._values += 1
        self.lines[path] = node.start_mark.line + 1
        value = self._read(node, schema, path, depth)
        if value is not BAD:
            self.values[path] = value
        return value

    def _read(self, node: yaml.Node, schema: Any, path: str, depth: int) -> Any:
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            if self._values <= MAX_VALUES + 1 or depth == MAX_DEPTH + 1:
                self.problem(node, path, "holds too many values, or is nested too deeply")
            return BAD
        if own := getattr(schema, "read_node", None):
            return own(self, node, path, depth)
        origin = typing.get_origin(schema)
        if origin in (types.UnionType, typing.Union):
            return self._optional(node, schema, path, depth)
        if _is_null(node) and not _is_struct(schema):
            return self.problem(node, path, "has no value")
        if origin is list:
            return self._list(node, typing.get_args(schema)[0], path, depth)
        if origin is dict:
            key, item = typing.get_args(schema)
            return self._dict(node, key, item, path, depth)
        if _is_struct(schema):
            return self._struct(node, schema, path, depth)
        return self._scalar(node, schema, path)

    def _optional(self, node: yaml.Node, schema: Any, path: str, depth: int) -> Any:
        if _is_null(node):
            return None
        inner = [a for a in typing.get_args(schema) if a is not type(None)]
        return self.read(node, inner[0], path, depth)

    def _list(self, node: yaml.Node, item: Any, path: str, depth: int) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self.problem(node, path, f"must be a list, is {_noun(node)}")
        values = [self.read(n, item, f"{path}[{i}]", depth + 1) for i, n in enumerate(node.value)]
        return BAD if BAD in values else values

    def pairs(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yields (key, the key's node, the value's node); keys that are no text or stand twice are noted and left out."""
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, path, "has a key that is not a text")
            elif key.value in seen:
                self.problem(key, _join(path, key.value), f"stands twice (first on line {seen[key.value]})")
            else:
                seen[key.value] = key.start_mark.line + 1
                yield key.value, key, value

    def _dict(self, node: yaml.Node, key_schema: Any, item: Any, path: str, depth: int) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self.problem(node, path, f"must be a mapping (key: value), is {_noun(node)}")
        out = {}
        for key, key_node, value in self.pairs(node, path):
            name = self._scalar(key_node, key_schema, _join(path, key))
            out[name] = self.read(value, item, _join(path, key), depth + 1)
        return BAD if BAD in out or BAD in out.values() else out

    def _struct(self, node: yaml.Node, schema: Any, path: str, depth: int) -> Any:
        if _is_null(node):
            node = yaml.MappingNode("", [], node.start_mark, node.end_mark)
        if not isinstance(node, yaml.MappingNode):
            return self.problem(node, path, f"must be a mapping (key: value), is {_noun(node)}")
        hints = typing.get_type_hints(schema, include_extras=True)
        fields = {f.name.rstrip("_"): f for f in dataclasses.fields(schema) if f.init}
        values: dict[str, Any] = {}
        for key, key_node, value in self.pairs(node, path):
            if key not in fields:
                self.problem(key_node, _join(path, key), _unknown(key, fields))
                continue
            values[fields[key].name] = self.read(value, hints[fields[key].name], _join(path, key), depth + 1)
        missing = [key for key, f in fields.items() if f.name not in values and _required(f)]
        for name in missing:
            self.problem(node, _join(path, name), "is missing")
        if missing or BAD in values.values():
            return BAD
        return self._checked(schema(**values), path)

    def _checked(self, made: Any, path: str) -> Any:
        found = list(made.problems()) if hasattr(made, "problems") else []
        told = [(where, message) for field, message in found if not self.lies_elsewhere(where := _join(path, field))]
        for where, message in told:
            self.object(where, message)
        return BAD if told else made

    def line(self, path: str) -> int:
        """The line of a path, or of the nearest whole that holds it."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 1)

    def _scalar(self, node: yaml.Node, schema: Any, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self.problem(node, path, f"must be a single value, is {_noun(node)}")
        try:
            return _parse(node.value, schema)
        except _NotError as e:
            return self.problem(node, path, str(e))


class _NotError(ValueError):
    """A text that is not of its schema; str() is the message."""


def parse(text: str, schema: Any) -> Any:
    """A single text, read as a field of `schema` reads it. Raises ValueError with the message that a file would get."""
    return _parse(text, schema)


def _parse(text: str, schema: Any) -> Any:
    shown = f'"{_shown(text)}"'
    if typing.get_origin(schema) is Annotated:
        form = schema.__metadata__[0]
        try:
            return form.parse(text)
        except ValueError as e:
            hint = f" ({form.hint})" if form.hint else ""
            raise _NotError(f"{shown} {e}" if e.args else f"{shown} is not {form.what}{hint}") from None
    if typing.get_origin(schema) is Literal:
        options = {str(a): a for a in typing.get_args(schema)}
        if text not in options:
            raise _NotError(f"{shown} is not one of {', '.join(options)}")
        return options[text]
    if schema is bool:
        if text.lower() not in _BOOL:
            raise _NotError(f"{shown} is neither true nor false")
        return _BOOL[text.lower()]
    if schema in (int, float):
        return _number(text, schema, shown)
    return text


def _number(text: str, schema: Any, shown: str) -> Any:
    pattern = r"[+-]?\d{1,18}" if schema is int else r"[+-]?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?"
    if not re.fullmatch(pattern, text, re.ASCII):
        raise _NotError(f"{shown} is not a {'whole ' if schema is int else ''}number")
    return schema(text)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null" and not node.style


def _is_struct(schema: Any) -> bool:
    return isinstance(schema, type) and dataclasses.is_dataclass(schema)


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _noun(node: yaml.Node) -> str:
    if isinstance(node, yaml.CollectionNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    return "a single value"


def _shown(text: str) -> str:
    """A stranger's text as a message may hold it: short, and on one line."""
    start = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:60])
    return start if len(text) <= 60 else start + "…"


def _join(path: str, key: str) -> str:
    key = _shown(key)
    return f"{path}.{key}" if path else key


def _unknown(key: str, fields: dict[str, Any]) -> str:
    close = difflib.get_close_matches(key[:60], fields, 1)
    return f"unknown key (did you mean {close[0]}?)" if close else f"unknown key (known: {', '.join(fields) or 'none'})"
