"""What in a config is over and does nothing: entries of `suppress:` whose last day has passed. `ronda check` warns of them by line.

Law: reads YAML's nodes, for only they know the lines; a file that isn't YAML has been refused before.
"""

import time
from collections.abc import Iterator
from datetime import tzinfo
from pathlib import Path

import yaml

from agent import structure
from agent.detect.suppressions import end_of
from agent.structure import Problem


def past_suppressions(path: Path, zone: tzinfo, now: float | None = None) -> list[Problem]:
    """A problem an entry. Raises ConfigError where the file can't be read any more."""
    root = structure.compose(structure.read_bytes(path), path.name)
    at = time.time() if now is None else now
    return [problem for entry in _entries(root) if (problem := _over(entry, path.name, zone, at))]


def _entries(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """The mappings in lists under a key `suppress`, wherever it stands."""
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _entries(one)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "suppress" and isinstance(value, yaml.SequenceNode):
                yield from (one for one in value.value if isinstance(one, yaml.MappingNode))
            else:
                yield from _entries(value)


def _over(entry: yaml.MappingNode, file: str, zone: tzinfo, now: float) -> Problem | None:
    said = {key.value: value for key, value in entry.value}
    until, rule = said.get("until"), said.get("rule")
    if not until or not rule or now < end_of(str(until.value), zone):
        return None
    message = (
        f"sudah lewat ({until.value}) dan tidak berlaku lagi untuk {rule.value}: hapus, atau lihat lagi dan perpanjang (over: take it out)"
    )
    return Problem(file, until.start_mark.line + 1, "suppress.until", message)
