"""The pages of blind spots name every detector, and every reason that code gives for seeing less than all, in both languages."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.detect import changed, table
from agent.detect.model import Plain, Vouched

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / f"docs/blindspots.{language}.md" for language in ("id", "en")]
DETECTORS = [maker(Vouched()) for maker in (*table.LAN, *table.HOST, *table.SYSLOG, *table.TRAPS)]
MAKERS = (ROOT / "agent/logtail.py", ROOT / "agent/dpkg.py")


def reasons() -> set[str]:
    """Second arguments of Coverage(…), what detectors are told beforehand, and what those who look hand over."""
    found = {reason for file in (ROOT / "agent/detect").glob("*.py") for reason in _said(ast.parse(file.read_text()))}
    for file in MAKERS:
        found |= set(re.findall(r'\bwhy = (?:self\._journal\.why and )?\(?"([a-z_]+)"', file.read_text()))
    found |= {d.blind for d in DETECTORS if isinstance(d, Plain)}
    found |= {c.partial for _, c in inspect.getmembers(changed, inspect.isclass) if getattr(c, "partial", "")}
    return found - {""}


def _said(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Coverage" and len(node.args) > 1:
            yield from (n.value for n in ast.walk(node.args[1]) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Attribute) and t.attr == "_why" for t in node.targets):
            yield from (n.value for n in (node.value,) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def test_reasons_are_found() -> None:
    assert {"no_capture", "needs_router", "shadow_unreadable", "lists_unreadable", "log_unreadable"} <= reasons()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_reason_is_explained_with_a_cure(page: Path) -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| [^|]+ \| ([^|]+) \|$", page.read_text(), re.MULTILINE))
    assert reasons() - rows.keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_detector_says_what_it_does_not_see(page: Path) -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| [^|]+ \| ([^|]+) \|$", page.read_text(), re.MULTILINE))
    assert {d.rule.name for d in DETECTORS} - rows.keys() == set()


def test_both_languages_explain_the_same() -> None:
    first, second = (re.findall(r"^\| `([a-z0-9_]+)`", page.read_text(), re.MULTILINE) for page in PAGES)
    assert first == second
