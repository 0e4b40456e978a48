"""A real Alertmanager with the rendered files, and what it sends to: the inbox as Telegram, a mail server that remembers.

Law: what is tested is what is rendered; only waiting times are shortened. Everything listens on loopback at ports of its own.
"""

import email
import email.policy
import json
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from central import alertmanager
from central.inbox import Inbox
from central.inventory import Inventory, load
from central.target import Target, detect

PROGRAM = "prometheus-alertmanager"
TOKEN = "123456:a-token-of-the-tests"
SHORTER = {'"2s"': '"200ms"', '"5m"': '"300ms"', '"0s"': '"1ms"', '"30s"': '"400ms"', '"50s"': '"700ms"'}

INVENTORY = """
centre:
  {name: Kominfo Labuhanbatu, timezone: Asia/Jakarta, url: "https://pusat.example.go.id:17664", phone: "0624-000000",
   csirt: "TTIS Labuhanbatu 0624-000008"}
calendars: {lima-hari: {mon-thu: "07:30-16:00", fri: "07:30-16:30"}}
isps: {isp-a: {name: ISP A, noc: "021-000100"}, isp-b: {name: ISP B, noc: "021-000200"}}
services: {siak: {name: SIAK, url: "https://siak.example.go.id/", owner: Kemendagri, phone: "021-000600"}}
sites:
  rsud:
    name: RSUD Rantauprapat
    code: RSU
    district: Rantau Selatan
    class: 24-jam
    uplinks: [{isp: isp-a, medium: fibre, customer: "001", source: wan1}, {isp: isp-b, medium: fibre, customer: "002", source: wan2}]
    contacts: [{name: Piket RSUD, phone: "0624-000119"}, {name: Koordinator TTIS, phone: "0624-000009", audience: csirt}]
  dukcapil:
    {name: Dinas Kependudukan dan Pencatatan Sipil, code: DKC, district: Rantau Selatan, class: layanan, calendar: lima-hari,
     uplinks: [{isp: isp-a, medium: fibre, customer: "003"}], services: [siak]}
  bunaken:
    {name: Kantor Lurah Bunaken, code: BNK, district: Bunaken, class: kantor, calendar: lima-hari, timezone: Asia/Makassar,
     uplinks: [{isp: isp-b, medium: vsat, customer: "004"}]}
"""
CHANNELS = """
channels:
  ops:
    telegram: {{chat_id: "-1001", token_file: {token}, api_url: "{url}"}}
    email: {{to: [piket@example.go.id, kabid@example.go.id]}}
    webhook: {{url: "{url}/webhook/ops"}}
  csirt: {{telegram: {{chat_id: "-1002", token_file: {token}, api_url: "{url}"}}}}
  isp: {{webhook: {{url: "{url}/webhook/isp"}}}}
  digest:
    telegram: {{chat_id: "-1005", token_file: {token}, api_url: "{url}"}}
    email: {{to: [kabid@example.go.id]}}
    webhook: {{url: "{url}/webhook/digest"}}
  deadman: {{webhook: {{url: "{url}/webhook/deadman"}}}}
smtp: {{host: "{smtp}", from: ronda@example.go.id, require_tls: false}}
"""


def inventory(folder: Path, text: str = INVENTORY, url: str = "http://127.0.0.1:9", smtp: str = "127.0.0.1:25") -> Inventory:
    """`text` with channels for every audience but pimpinan, all leading to `url`."""
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    file = folder / "inventory.yaml"
    file.write_text(text + CHANNELS.format(token=token, url=url, smtp=smtp))
    return load(file)


def write(files: Mapping[str, str], folder: Path) -> Path:
    """The rendered files; returns alertmanager.yml's path."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "alertmanager/alertmanager.yml"


class MailServer:
    """Takes mails and keeps them, oldest first."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        mails = self.mails

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 mail.example.go.id\r\n")
                for line in self.rfile:
                    if line.upper().startswith(b"DATA"):
                        self.wfile.write(b"354 go on\r\n")
                        mails.append(_mail(iter(self.rfile.readline, b".\r\n")))
                    self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        host, port = self.server.server_address[:2]
        return f"{host!s}:{port}"

    @contextmanager
    def serving(self) -> Iterator["MailServer"]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


def _mail(lines: Iterator[bytes]) -> EmailMessage:
    data = b"".join(line.removeprefix(b".") for line in lines)
    mail = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


class Bench:
    """`inbox`: what Telegram and the webhooks would get; `mails`; `post` sends alerts as Prometheus does."""

    def __init__(self, inbox: Inbox, mails: MailServer, url: str, log: Path) -> None:
        self.inbox, self.mail_server, self.url, self.log = inbox, mails, url, log

    @property
    def mails(self) -> list[EmailMessage]:
        return self.mail_server.mails

    def texts(self, audience: str) -> list[str]:
        return [m.plain for m in self.inbox.messages if m.audience == audience]

    def post(self, *alerts: Mapping[str, Any]) -> None:
        body = json.dumps(alerts).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/alerts", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    def until(self, done, what: str) -> None:
        """Waits for a real program's doing; the limit is for one that never does it."""
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, f"never: {what}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.02)

    def message(self, audience: str, words: str) -> str:
        """The first message to an audience that holds `words`, as Telegram was sent it."""
        found = []
        self.until(lambda: found.extend(m.text for m in self.inbox.messages if m.audience == audience and words in m.plain) or found, words)
        return found[0]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextmanager
def bench(folder: Path, text: str = INVENTORY, program: str = PROGRAM, target: Target | None = None) -> Iterator[Bench]:
    folder.mkdir(exist_ok=True)
    mails = MailServer()
    with Inbox() as inbox, mails.serving():
        made = inventory(folder, text, inbox.url, mails.address)
        config = write(alertmanager.files(made, target or detect()), folder / "rendered")
        shortened = config.read_text()
        for long, brief in SHORTER.items():
            shortened = shortened.replace(long, brief)
        config.write_text(shortened)
        port = free_port()
        options = [f"--config.file={config}", f"--storage.path={folder / 'data'}", "--cluster.listen-address="]
        log = folder / "alertmanager.log"
        with log.open("wb") as out:
            command = [shutil.which(program) or program, *options, f"--web.listen-address=127.0.0.1:{port}"]
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        made_bench = Bench(inbox, mails, f"http://127.0.0.1:{port}", log)
        try:
            made_bench.until(lambda: _ready(made_bench.url, process, log), "Alertmanager is ready")
            yield made_bench
        finally:
            process.terminate()
            process.wait(30)


def _ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


# -- alerts -----------------------------------------------------------------------------------------------------------------------

BEGAN, ENDED = "2024-11-23T19:07:00Z", "2024-11-23T19:41:20Z"  # 02.07 and 02.41 WIB


def alert(name: str, site: str, /, ended: str = "", notes: Mapping[str, str] | None = None, **labels: str) -> dict[str, Any]:
    """As Prometheus posts it; without `ended` it goes on."""
    given = {"alertname": name, "site": site, "severity": "critical", "audience": "ops", **labels}
    runbook = f"https://pusat.example.go.id/runbook#{name}"
    return {
        "labels": given,
        "annotations": {"runbook_url": runbook, **(notes or {})},
        "startsAt": BEGAN,
        **({"endsAt": ended} if ended else {}),
    }
