"""Syslog over TCP (RFC 6587): a stream of bytes → messages, counted in octets or ended by a newline, each by its own first bytes.

Law: pure. However a stream comes in pieces, the messages are the same. Nothing above `most` bytes is held: what is longer is passed over
and counted. A NUL ends a message too (3.4.2: some senders do).

    123 <34>Oct 11 …      octet counting: digits, a space, and a "<" behind it
    <34>Oct 11 …\\n        non-transparent framing: everything else
"""

import re

_COUNT = re.compile(rb"([1-9]\d{0,6}) (?=<)")
_COUNT_PERHAPS = re.compile(rb"[1-9]\d{0,6} ?\Z")
_END = re.compile(rb"[\n\0]")


class Splitter:
    """`long`: messages that were passed over; `half`: whether one has begun and not ended."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, b""
        self._skip = 0  # bytes of a counted message that is passed over
        self._to_end = False  # until its newline
        self.long = 0

    @property
    def half(self) -> bool:
        return bool(self._held) or self._skip > 0 or self._to_end

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now; empty lines are none."""
        self._held += data
        found: list[bytes] = []
        while self._held and self._next(found):
            pass
        return found

    def close(self) -> bytes:
        """The stream has ended: the last message, where its end was only that."""
        held, self._held, counted = self._held, b"", _COUNT.match(self._held)
        whole = not (self._skip or self._to_end or counted or _COUNT_PERHAPS.match(held))
        self._skip, self._to_end = 0, False
        return held.strip(b"\r\n\0 ") if whole else b""

    def _next(self, found: list[bytes]) -> bool:
        """Takes one step; False: more bytes are needed."""
        if self._skip:
            gone = min(self._skip, len(self._held))
            self._held, self._skip = self._held[gone:], self._skip - gone
            return True
        if self._to_end:
            return self._pass_line()
        if _COUNT_PERHAPS.match(self._held):
            return False
        if counted := _COUNT.match(self._held):
            return self._counted(found, int(counted[1]), counted.end())
        return self._line(found)

    def _counted(self, found: list[bytes], length: int, start: int) -> bool:
        if length > self._most:
            self.long += 1
            self._held, self._skip = self._held[start:], length
            return True
        if len(self._held) < start + length:
            return False
        found.append(self._held[start : start + length])
        self._held = self._held[start + length :]
        return True

    def _line(self, found: list[bytes]) -> bool:
        end = _END.search(self._held, 0, self._most + 1)
        if not end:
            if len(self._held) <= self._most:
                return False
            self.long += 1
            self._to_end = True
            return True
        if line := self._held[: end.start()].strip(b"\r "):
            found.append(line)
        self._held = self._held[end.end() :]
        return True

    def _pass_line(self) -> bool:
        end = _END.search(self._held)
        self._held, self._to_end = (self._held[end.end() :], False) if end else (b"", True)
        return end is not None
