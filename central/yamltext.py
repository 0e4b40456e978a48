"""Values as YAML that Go's and Python's readers take alike, whatever the texts hold.

Law: a text that is more than a plain word is quoted, so that nothing is taken for a number, a truth or a mark of YAML; texts of
several lines without oddities are block literals, so that people can read an expression. Same value, same bytes.
"""

import re
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/:.%-]*[A-Za-z0-9_]|[A-Za-z_]")
_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}  # YAML 1.1 takes these for something else than texts
_BLOCK = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]([^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]*[^\s])?")
_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]  # (the C dumper where there is one)
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  (PyYAML's own)
        return True


def _text(dumper: Any, text: str) -> Any:
    unruly = "\n" in text or (len(text) > 40 and re.search(r'["\\]', text))
    if unruly and _BLOCK.fullmatch(text) and not re.search(r"[ ]\n", text):
        style: str | None = "|"
    elif _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        style = None
    else:
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(value: Any, *, header: str = "") -> str:
    """A document. `header` is put in front as a comment, a `#` before each of its lines."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 30, default_flow_style=False)
    return "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines()) + text
