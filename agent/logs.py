"""How the agent speaks in its log: one line an occurrence, as text or JSON, to standard error.

Law: no secret and no payload is logged; text from the network is made printable, so it can't forge lines.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


class TextFormatter(logging.Formatter):
    """`2026-11-24T02:07:00Z warning task icmp:gateway is down`; without the time where the journal adds its own."""

    def __init__(self, *, time: bool) -> None:
        super().__init__()
        self._time = time

    def format(self, record: logging.LogRecord) -> str:
        at = f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%SZ} " if self._time else ""
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{at}{record.levelname.lower()} {_printable(record.getMessage())}{trace}"


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def setup(level: str, form: str) -> None:
    """Sets the one handler; called again at a reload."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(time="JOURNAL_STREAM" not in os.environ))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.getLogger().level))
