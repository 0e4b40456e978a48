"""The promises of prose and of the house, held: linters, types, licence, lock, layout, the direction of imports, what README says.

Law: each test reads the tree as it is; none is a list that somebody must remember to extend.
"""

import ast
import dataclasses
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from agent.config import load_config, schema
from collectors import KINDS
from tests import filelist

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.txt").read_text()
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def tool(*command: str) -> None:
    run = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=170)
    assert run.returncode == 0, run.stdout + run.stderr


def test_ruff_has_nothing_to_say() -> None:
    tool("ruff", "check")


def test_ruff_would_format_nothing() -> None:
    tool("ruff", "format", "--check")


def test_types_are_strict_and_hold() -> None:
    tool("mypy")


# --- licence, lock, dependencies -------------------------------------------------------------------------------------------


def test_the_licence_is_mit_and_says_so_everywhere() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License\n")
    assert "Ronda contributors" in text
    assert PROJECT["project"]["license"] == "MIT"


def locked() -> dict[str, Version]:
    return {canonicalize_name(m[1]): Version(m[2]) for m in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, re.MULTILINE)}


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.IGNORECASE | re.MULTILINE)[1:]
    assert len(entries) == len(locked())
    assert [e.splitlines()[0] for e in entries if "--hash=sha256:" not in e] == []


def test_the_lock_names_no_host_and_no_path() -> None:
    for word in ("http:", "https:", "file:", "index-url", "find-links", "trusted-host", " /", "@ "):
        assert word not in LOCK, word


def wanted() -> Iterator[Requirement]:
    for text in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"], *PROJECT["build-system"]["requires"]):
        yield Requirement(text)


def test_the_lock_has_what_pyproject_asks_for() -> None:
    versions = locked()
    wrong = [str(r) for r in wanted() if not r.specifier.contains(versions.get(canonicalize_name(r.name), Version("0")), prereleases=True)]
    assert wrong == [], "run: make lock"


def test_the_lock_has_nothing_else() -> None:
    """Whatever is locked is reached from pyproject over the installed packages' own metadata; other platforms' needs excepted."""
    reached: set[str] = set()
    todo = [canonicalize_name(r.name) for r in wanted()]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += _needs(name)
    assert set(locked()) - reached == set(), "run: make lock"


def _needs(name: str) -> list[str]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # a need of another platform
        return []
    return [canonicalize_name(r.name) for r in map(Requirement, lines) if "extra" not in str(r.marker)]


def test_this_environment_is_the_lock() -> None:
    differs = {}
    for name, version in locked().items():
        try:
            installed = Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed != version:
            differs[name] = str(installed)
    assert differs == {}, "run: make install"


def test_no_dependency_owns_our_import_names() -> None:
    owners = importlib.metadata.packages_distributions()
    ours = {name: set(owners.get(name, ())) - {"ronda"} for name in ("agent", "collectors", "central")}
    assert ours == {"agent": set(), "collectors": set(), "central": set()}


HEAVY = ("aiohttp", "cryptography", "dns", "pyasn1", "pysnmp", "requests", "scapy", "trustme")


def test_the_agent_imports_nothing_heavy_and_no_gpl() -> None:
    code = f"import sys, agent.app, agent.doctor, agent.cli, collectors; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == []


# --- the direction of imports ----------------------------------------------------------------------------------------------


def imports(file: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(file: Path) -> set[str]:
    """The modules of the project that a file imports."""
    return {m for m in imports(file) if module_file(m)}


def module_file(name: str) -> Path | None:
    path = ROOT / name.replace(".", "/")
    if name.split(".")[0] not in ("agent", "collectors", "central"):
        return None
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


CODE = sorted(p for d in ("agent", "collectors", "central") for p in (ROOT / d).rglob("*.py"))
AGENT = [p for p in CODE if p.is_relative_to(ROOT / "agent")]
COLLECTORS = [p for p in CODE if p.is_relative_to(ROOT / "collectors")]
relative = lambda p: str(p.relative_to(ROOT))  # noqa: E731  (a name for pytest's ids)


def test_only_the_command_line_imports_the_wiring() -> None:
    users = {relative(p) for p in CODE if "agent.app" in ours(p)}
    assert users <= {"agent/cli.py"}


def test_only_the_wiring_and_the_command_line_know_the_kinds() -> None:
    users = {relative(p) for p in AGENT if any(m.split(".")[0] == "collectors" for m in ours(p))}
    assert users <= {"agent/cli.py", "agent/app.py"}


def test_the_agent_never_imports_the_centre() -> None:
    assert [relative(p) for p in AGENT + COLLECTORS if any(m.split(".")[0] == "central" for m in imports(p))] == []


FRAME = {
    "app",
    "cli",
    "config",
    "scheduler",
    "registry",
    "exposition",
    "web",
    "pages",
    "status",
    "state",
    "diagnosis",
    "doctor",
    "systemd",
    "logs",
}


@pytest.mark.parametrize("file", COLLECTORS, ids=relative)
def test_a_collector_knows_nothing_of_the_frame(file: Path) -> None:
    used = {m.split(".")[1] for m in ours(file) if m.startswith("agent.")}
    assert used & FRAME == set()


def test_the_model_imports_nothing_of_ronda() -> None:
    assert ours(ROOT / "agent/model.py") == set()


def test_the_contract_stands_on_the_words_alone() -> None:
    assert ours(ROOT / "agent/collector.py") <= {"agent.board", "agent.clock", "agent.model", "agent.structure", "agent.net"} | {
        f"agent.{m}.{n}" for m, n in (("clock", "Clock"), ("board", "Board"))
    }


SINKS = [p for p in (ROOT / f"agent/{name}.py" for name in ("registry", "segments", "buffer", "ledger", "push", "journal")) if p.exists()]


@pytest.mark.parametrize("file", SINKS, ids=relative)
def test_sinks_know_the_model_only(file: Path) -> None:
    """And the pure codecs and how files are kept, which know nothing of Ronda themselves; the buffer has its ledger."""
    used = {m for m in ours(file) if m != "agent" and not m.startswith("agent.wire")}
    assert used <= {"agent.model", "agent.clock", "agent.files", "agent.segments"} | ({"agent.ledger"} if file.stem == "buffer" else set())


IO = {
    "asyncio", "concurrent", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "selectors", "shutil", "signal",
    "socketserver", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
}  # fmt: skip


@pytest.mark.parametrize("file", sorted((ROOT / "agent/wire").glob("*.py")), ids=relative)
def test_codecs_do_no_io(file: Path) -> None:
    """`socket` is allowed for its constants and inet_ntop, `sys` for the byte order; opening anything is not. Of Ronda: its words."""
    assert {m.split(".")[0] for m in imports(file)} & IO == set()
    assert {m for m in ours(file) if m.startswith("agent.") and not m.startswith(("agent.wire", "agent.model"))} == set()
    assert not re.search(r"socket\.(socket|create_|getaddrinfo|gethost)|\bopen\(", file.read_text())


@pytest.mark.parametrize("file", CODE, ids=relative)
def test_a_file_opens_with_its_purpose(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))


@pytest.mark.parametrize("file", CODE, ids=relative)
def test_no_function_is_longer_than_sixty_lines(file: Path) -> None:
    functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 60] == []


# --- a kind is a whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "path",
    ["collectors/{}.py", "tests/collectors/test_{}.py", "alerts/rules/{}.yaml", "alerts/rules/{}.test.yaml", "alerts/runbooks/{}.md"],
)
def test_a_kind_has_all_its_parts(kind: str, path: str) -> None:
    assert (ROOT / path.format(kind)).is_file()


def test_every_collector_file_is_in_the_table() -> None:
    # Files that begin with _ are shared by kinds.
    assert {p.stem for p in COLLECTORS if not p.stem.startswith("_")} == set(KINDS)


# --- what the texts say ----------------------------------------------------------------------------------------------------

TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(text: str) -> str:
    """What stands in code: blocks and `inline`."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))


@pytest.mark.parametrize("file", TEXTS, ids=relative)
def test_make_targets_in_the_texts_exist(file: Path) -> None:
    assert set(re.findall(r"\bmake ([a-z]+)\b", commands(file.read_text()))) - TARGETS == set()


@pytest.mark.parametrize("file", TEXTS, ids=relative)
def test_ronda_commands_in_the_texts_exist(file: Path) -> None:
    known = set(re.findall(r'add_parser\(\s*"([a-z]+)"', (ROOT / "agent/cli.py").read_text())) | {"central"}
    named = re.findall(r"(?:^|/|sudo -u ronda |`)ronda ([a-z]+)\b", commands(file.read_text()), re.MULTILINE)
    assert set(named) - known == set()


@pytest.mark.parametrize("file", TEXTS, ids=relative)
def test_links_in_the_texts_lead_somewhere(file: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text())
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_architecture_has_a_line_for_each_file() -> None:
    assert filelist.block() in filelist.DOC.read_text(), "run: make docs"


def test_the_two_commands_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make run" in text
    assert "make test" in text


def test_ci_calls_make_test() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"


def test_nothing_names_where_or_how_it_was_built() -> None:
    """No path of a build machine, no index host: a stranger's clone must read as well as ours."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60).stdout.split("\0")
    here = {str(ROOT) + "/", str(Path.home()) + "/"} - {"//"}
    pattern = re.compile("|".join([*map(re.escape, sorted(here)), r"https?://[^\s\"'/]+/(simple|packages)/"]))
    texts = [(name, ROOT / name) for name in files if name and (ROOT / name).is_file()]
    assert [name for name, path in texts if pattern.search(path.read_text(errors="ignore"))] == []


# --- the example config ----------------------------------------------------------------------------------------------------

EXAMPLE = ROOT / "config/agent.example.yaml"


def fields(schema: Any) -> Iterator[str]:
    """The names of all fields below a schema, kinds' own configs included."""
    for inner in typing.get_args(schema):
        yield from fields(inner)
    if isinstance(schema, type) and dataclasses.is_dataclass(schema):
        hints = typing.get_type_hints(schema, include_extras=True)
        for field in dataclasses.fields(schema):
            if field.init:
                yield field.name
                yield from fields(hints[field.name])


def test_the_example_is_valid_and_uses_every_kind() -> None:
    config = load_config(EXAMPLE, KINDS)
    assert {kind for kind, _ in config.tasks()} == set(KINDS)


def test_the_example_shows_every_key() -> None:
    text = EXAMPLE.read_text()
    assert [
        name for name in fields(schema(KINDS)) if not re.search(rf"\b{name}:", text) and not re.search(rf"^#\s+{name} ", text, re.MULTILINE)
    ] == []


def test_the_examples_lines_that_need_files_are_valid_too(tmp_path: Path) -> None:
    ca = trustme.CA()
    leaf = ca.issue_cert("ronda.example.go.id")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    for name in ("proxy-password", "api-token", "pegawai-password"):
        (tmp_path / name).write_text("secret\n")
    for path in tmp_path.iterdir():
        path.chmod(0o600)
    text = re.sub(r"^(\s+)#(?=\S)", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE).replace("/etc/ronda", str(tmp_path))
    whole = tmp_path / "agent.yaml"
    whole.write_text(text)
    assert {kind for kind, _ in load_config(whole, KINDS).tasks()} == set(KINDS)
