"""The list of files in docs/architecture.md, made of each file's own first sentence. `python -m tests.filelist` writes it (make docs)."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOC = ROOT / "docs/architecture.md"
HEADS = {
    "agent": "The frame",
    "agent/wire": "Codecs, bytes ↔ dataclasses, no I/O",
    "agent/capture": "The small privileged process, and what reads from it",
    "agent/snmp": "Devices asked and heard by SNMP",
    "agent/detect": "Detectors: pure functions of observation, time and state",
    "collectors": "What can be observed; `collectors/__init__.py` is the table",
    "central": "The centre",
    "central/dashboards": "The centre's Grafana dashboards",
}
BLOCK = re.compile(r"<!-- files -->.*?<!-- end of files -->", re.DOTALL)


def sentence(file: Path) -> str:
    """The first sentence of a file's docstring, without the kind's name that begins a collector's."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = re.split(r"(?<=[a-z)`])\.\s", text.split("\n\n")[0].replace("\n", " "))[0].removeprefix(f"{file.stem}: ")
    first = first if first.startswith(("`", "rtnetlink")) else first[:1].upper() + first[1:]
    return first if first.endswith((".", "?")) else first + "."


def block() -> str:
    """The list as it must stand in the document."""
    out = ["<!-- files -->", "<!-- made by: make docs -->"]
    for folder, head in HEADS.items():
        files = [p for p in sorted((ROOT / folder).glob("*.py")) if p.name != "__init__.py"]
        out += ["", f"**{head}**", "", *(f"- `{p.relative_to(ROOT)}`: {sentence(p)}" for p in files)]
    return "\n".join([*out, "", "<!-- end of files -->"])


if __name__ == "__main__":
    DOC.write_text(BLOCK.sub(lambda _: block(), DOC.read_text()))
