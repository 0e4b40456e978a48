"""The inbox: shows on this machine, as on a phone, the very messages that Telegram would get; keeps what webhooks are sent.

Law: it speaks as much of Telegram's Bot API as Alertmanager uses, and is as strict: what Telegram refuses is refused here, in its words.
Bounded (the last 500 of each kind), in memory only. A page shows nothing raw, loads nothing, runs no script. Meant for loopback: a
request under another host's name is refused, so that no web page that a browser has open can read the messages (DNS rebinding).

    POST /bot<token>/sendMessage   chat_id, text, parse_mode, as form or JSON → {"ok": true, "result": {message}}
    POST /webhook/<audience>       Alertmanager's JSON
    GET  / · /?chat=<audience> · /messages.json · /webhooks.json · /runbook (what a message's link leads to)

By itself: python -m central.inbox [--listen 127.0.0.1:17666] [--chat ops=-1001 …] [--zone Asia/Jakarta]
"""

import argparse
import dataclasses
import http.server
import ipaddress
import itertools
import json
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent.structure import parse_listen
from central import inboxpage, runbooks, telegramtext

KEEP = 500
MAX_BODY = 1 << 20  # bytes
MAX_AUDIENCES = 20
# The chats of an inventory that has none of its own: see up.rehearsal
CHATS: Mapping[str, str] = MappingProxyType({"ops": "-1001", "csirt": "-1002", "isp": "-1003", "pimpinan": "-1004", "digest": "-1005"})
LISTEN = "127.0.0.1:17666"
_SEND = re.compile(r"/bot([^/]+)/sendMessage", re.IGNORECASE)
_HOOK = re.compile(r"/webhook/([a-z0-9-]{1,40})")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a chat. `at`: Unix time it came; `text`: as sent; `plain`: its words; `safe`: HTML for a page."""

    id: int
    at: float
    chat: str
    audience: str
    text: str
    plain: str
    safe: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hook:
    """One webhook's body. `at`: Unix time it came; `body`: the JSON that Alertmanager sent."""

    at: float
    audience: str
    body: Any


class Inbox:
    """Listens at once on `host`:`port` (0: any free port, see `url`); answers from `serve()`, or from a thread of its own as a context.

    `chats`: audience → chat id, so that the page names audiences. `zone`: IANA name for the times on the page.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        chats: Mapping[str, str] = CHATS,
        zone: str = "Asia/Jakarta",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._audiences = {chat: audience for audience, chat in chats.items()}
        self._zone, self._now = zone, now
        self._messages: deque[Message] = deque(maxlen=KEEP)
        self._hooks: dict[str, deque[Hook]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._server = _Server((host, port), _handler(self))
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:17665`, no slash at its end: good as Alertmanager's api_url."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def messages(self) -> list[Message]:
        """Oldest first."""
        with self._lock:
            return list(self._messages)

    def hooks(self, audience: str) -> list[Hook]:
        """Oldest first; empty for an audience that was sent nothing."""
        with self._lock:
            return list(self._hooks.get(audience, ()))

    def serve(self) -> None:
        """Answers until stop() is called from another thread."""
        self._server.serve_forever(poll_interval=0.05)

    def start(self) -> None:
        """serve() in a thread of its own."""
        self._thread = threading.Thread(target=self.serve, name="inbox", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends serve() and frees the port."""
        if self._thread:
            self.stop()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def stop(self) -> None:
        """Makes serve() return; waits for it, so it is for another thread than that of serve()."""
        self._server.shutdown()

    def __enter__(self) -> "Inbox":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, chat: str, text: str, parse_mode: str = "") -> Message:
        """Keeps a chat message. Raises ValueError, in Telegram's words, where Telegram answers 400."""
        if not chat:
            raise ValueError("chat_id is empty")
        if parse_mode.upper() not in ("", "HTML"):
            raise ValueError("unsupported parse_mode")
        read = telegramtext.html_text(text) if parse_mode else telegramtext.plain_text(text)
        with self._lock:
            audience = self._audiences.get(chat, chat[:40])
            made = Message(id=next(self._ids), at=self._now(), chat=chat, audience=audience, text=text, plain=read.plain, safe=read.safe)
            self._messages.append(made)
        return made

    def hook(self, audience: str, body: Any) -> None:
        """Keeps a webhook's body. Raises ValueError for one audience too many."""
        with self._lock:
            if audience not in self._hooks and len(self._hooks) >= MAX_AUDIENCES:
                raise ValueError("too many audiences")
            kept = self._hooks.setdefault(audience, deque(maxlen=KEEP))
            kept.append(Hook(at=self._now(), audience=audience, body=body))

    def page(self, chat: str = "") -> str:
        """The messages as HTML, newest last; `chat` shows one audience only."""
        messages = [m for m in self.messages if chat in ("", m.audience)]
        with self._lock:
            hooks = {audience: (len(kept), kept[-1].at) for audience, kept in sorted(self._hooks.items())}
            audiences = sorted({m.audience for m in self._messages})
        bubbles = [inboxpage.Bubble(m.at, m.audience, m.safe) for m in messages]
        return inboxpage.page(bubbles, audiences, chat, hooks, self._zone)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away in the middle is its own affair."""


class _RefusedError(Exception):
    """A request that is answered with `status` and Telegram's kind of error body."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


def _handler(inbox: Inbox) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30  # seconds for a peer that says nothing

        def do_GET(self) -> None:
            self._answer(lambda: _get(inbox, self.path))

        def do_POST(self) -> None:
            self._answer(lambda: _post(inbox, self.path, self.headers.get_content_type(), self._body()))

        def _body(self) -> bytes:
            length = self.headers.get("Content-Length", "")
            if not re.fullmatch(r"\d{1,9}", length, re.ASCII):
                raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
            if int(length) > MAX_BODY:
                self._read_away(min(int(length), 8 * MAX_BODY))  # else most peers would see a reset instead of the answer
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large")
            return self.rfile.read(int(length))

        def _read_away(self, left: int) -> None:
            while left > 0 and (read := len(self.rfile.read(min(left, 1 << 16)))):
                left -= read

        def _answer(self, made: Callable[[], tuple[str, bytes]]) -> None:
            try:
                _refuse_foreign_names(self.headers.get("Host", ""))
                kind, body = made()
                status = HTTPStatus.OK
            except _RefusedError as e:
                status, kind, body = e.status, "application/json", _refusal(e.status, str(e))
                self.close_connection = True  # a body that was not read would be taken for the next request
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """The messages are what there is to see."""

    return Handler


def _refuse_foreign_names(host: str) -> None:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if name != "localhost":
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "only by address or as localhost") from None


def _refusal(status: HTTPStatus, words: str) -> bytes:
    return json.dumps({"ok": False, "error_code": status.value, "description": f"{status.phrase}: {words}"}).encode()


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, ensure_ascii=False).encode()


def _get(inbox: Inbox, path: str) -> tuple[str, bytes]:
    asked = urlsplit(path)
    if asked.path == "/":
        chat = parse_qs(asked.query).get("chat", [""])[0]
        return "text/html; charset=utf-8", inbox.page(chat).encode()
    if asked.path == "/runbook":
        return "text/html; charset=utf-8", runbooks.page().encode()
    if asked.path == "/messages.json":
        return _json([dataclasses.asdict(m) for m in inbox.messages])
    if asked.path == "/webhooks.json":
        return _json({a: [dataclasses.asdict(h) for h in inbox.hooks(a)] for a in sorted(inbox._hooks)})
    raise _RefusedError(HTTPStatus.NOT_FOUND, "not found")


def _post(inbox: Inbox, path: str, kind: str, body: bytes) -> tuple[str, bytes]:
    try:
        if _SEND.fullmatch(path):
            return _json({"ok": True, "result": _send(inbox, _fields(kind, body))})
        if hook := _HOOK.fullmatch(path):
            inbox.hook(hook[1], json.loads(body))
            return _json({"ok": True})
    except (ValueError, RecursionError) as e:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, str(e)) from None
    raise _RefusedError(HTTPStatus.NOT_FOUND, "not found")


def _fields(kind: str, body: bytes) -> dict[str, str]:
    """A form or a flat JSON object, as text. Raises ValueError for anything else."""
    if kind == "application/json":
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError("the body is not an object")
        return {str(k): str(v) for k, v in found.items()}
    return {k: v[-1] for k, v in parse_qs(body.decode(), max_num_fields=50).items()}


def _send(inbox: Inbox, fields: Mapping[str, str]) -> dict[str, Any]:
    """The message as Telegram tells it back."""
    m = inbox.send(fields.get("chat_id", ""), fields.get("text", ""), fields.get("parse_mode", ""))
    chat = {"id": int(m.chat) if re.fullmatch(r"-?\d{1,18}", m.chat) else 0, "type": "supergroup", "title": m.audience}
    return {"message_id": m.id, "date": int(m.at), "chat": chat, "text": m.plain}


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m central.inbox", description="Shows what would be sent to Telegram.")
    parser.add_argument("--listen", type=parse_listen, default=LISTEN, metavar="HOST:PORT")
    parser.add_argument("--chat", action="append", default=[], type=_pair, metavar="AUDIENCE=CHAT_ID")
    parser.add_argument("--zone", default="Asia/Jakarta", help="of the times on the page")
    args = parser.parse_args(argv)
    host, _, port = args.listen.rpartition(":")
    inbox = Inbox(host.strip("[]") or "127.0.0.1", int(port), chats={**CHATS, **dict(args.chat)}, zone=args.zone)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=inbox.stop).start())
    print(f"messages are shown at {inbox.url}/", flush=True)
    inbox.serve()
    inbox.close()
    return 0


def _pair(text: str) -> tuple[str, str]:
    audience, _, chat = text.partition("=")
    if not audience or not chat:
        raise argparse.ArgumentTypeError(f'"{text}" is not AUDIENCE=CHAT_ID')
    return audience, chat


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
