"""Telegram's HTML, read as strictly as Telegram reads it: text → HTML that a page may show, and its plain text.

Law: what Telegram would refuse raises ValueError in Telegram's own words, so a message that passes here arrives there. Everything is
escaped again on its way out: nothing of the input reaches a page raw. Source: core.telegram.org/bots/api, "HTML style".
"""

import html
import re
from typing import NamedTuple

LIMIT = 4096  # characters of one message, counted after the entities are read
TAGS = frozenset({"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "a"})
_TOKEN = re.compile(r"<(?P<close>/?)(?P<tag>[A-Za-z0-9-]+)(?P<rest>(?:\s[^<>]*)?)>|(?P<text>[^<]+)|(?P<stray><)")
_ENTITY = re.compile(r"&(?:(lt|gt|amp|quot)|#(\d{1,7})|#[xX]([0-9A-Fa-f]{1,6}));")
_HREF = re.compile(r"""\s+href=(?:"([^"]*)"|'([^']*)')\s*""")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}


class Read(NamedTuple):
    """`safe`: HTML of the allowed tags only, all else escaped. `plain`: the words alone."""

    safe: str
    plain: str


def plain_text(text: str) -> Read:
    """A message without a parse mode."""
    return _within_limits(Read(html.escape(text), text))


def html_text(text: str) -> Read:
    """A message with parse_mode HTML. Raises ValueError where Telegram answers 400."""
    safe: list[str] = []
    plain: list[str] = []
    open_tags: list[str] = []
    for token in _TOKEN.finditer(text):
        if token["text"] is not None:
            words = _unescape(token["text"])
            plain.append(words)
            safe.append(html.escape(words))
        elif token["stray"] or token["tag"].lower() not in TAGS:
            raise ValueError(f'can\'t parse entities: Unsupported start tag "{token["tag"] or ""}" at byte offset {token.start()}')
        elif token["close"]:
            safe.append(_closing(token["tag"].lower(), open_tags))
        else:
            open_tags.append(token["tag"].lower())
            safe.append(_opening(open_tags[-1], token["rest"]))
    if open_tags:
        raise ValueError(f"can't parse entities: Can't find end tag corresponding to start tag \"{open_tags[-1]}\"")
    return _within_limits(Read("".join(safe), "".join(plain)))


def _within_limits(read: Read) -> Read:
    if not read.plain.strip():
        raise ValueError("message text is empty")
    if len(read.plain) > LIMIT:
        raise ValueError("message is too long")
    return read


def _closing(tag: str, open_tags: list[str]) -> str:
    if not open_tags or open_tags.pop() != tag:
        raise ValueError(f'can\'t parse entities: Unmatched end tag "{tag}"')
    return f"</{tag}>"


def _opening(tag: str, rest: str) -> str:
    """A link keeps its address if it leads to the web; any other attribute is dropped."""
    href = _HREF.fullmatch(rest) if tag == "a" else None
    address = _unescape(href[1] or href[2] or "") if href else ""
    if re.match(r"https?://", address):
        return f'<a href="{html.escape(address)}" rel="noopener noreferrer">'
    return f"<{tag}>"


def _unescape(text: str) -> str:
    """Only the entities that Telegram knows; any other `&` is a plain character."""

    def character(m: re.Match[str]) -> str:
        if m[1]:
            return _NAMED[m[1]]
        code = int(m[2]) if m[2] else int(m[3], 16)
        return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"

    return _ENTITY.sub(character, text)
