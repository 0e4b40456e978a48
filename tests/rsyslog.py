"""A real rsyslogd on loopback, over TCP or TLS, which can be stopped and started; and what it has written."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

from agent.wire.rfc5424 import Message, decode
from tests.receiver import free_port

GTLS = """global(DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{ca}" DefaultNetstreamDriverCertFile="{cert}"
  DefaultNetstreamDriverKeyFile="{key}")
"""
CONFIG = """global(workDirectory="{folder}")
{tls}module(load="imtcp" {driver})
template(name="raw" type="string" string="%timereported:::date-rfc3339%|%hostname%|%app-name%|%msgid%|%syslogseverity-text%|%rawmsg%\\n")
input(type="imtcp" address="{address}" port="{port}")
action(type="omfile" file="{folder}/received" template="raw")
"""


class Rsyslog:
    """`auth`: how clients are judged over TLS: "anon", or "x509/name" with `client` as the name they must have; "": plain TCP."""

    def __init__(self, folder: Path, auth: str = "", client: str = "dukcapil.test", address: str = "127.0.0.1", port: int = 0) -> None:
        self.folder, self.port = folder, port or free_port()
        self.ca = trustme.CA()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        tls = driver = ""
        if auth:
            cert, key = self.issue(address)
            tls = GTLS.format(ca=folder / "ca.pem", cert=cert, key=key)
            permitted = f'PermittedPeer=["{client}"]' if auth != "anon" else ""
            driver = f'StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="{auth}" {permitted}'
        (folder / "rsyslog.conf").write_text(CONFIG.format(folder=folder, tls=tls, driver=driver, address=address, port=self.port))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key, by the collector's own CA."""
        issued = self.ca.issue_cert(name)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(issued.private_key_pem.bytes())
        return cert, key

    @property
    def command(self) -> list[str]:
        return ["rsyslogd", "-n", "-iNONE", "-f", str(self.folder / "rsyslog.conf")]

    @property
    def lines(self) -> list[str]:
        path = self.folder / "received"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    @property
    def messages(self) -> list[Message]:
        """What it got, as it came."""
        return [decode(line.split("|", 5)[5].encode()) for line in self.lines]

    @property
    def numbers(self) -> list[int]:
        return [int(dict(next(iter(message.data.values())))["seq"]) for message in self.messages]

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log)
        for _ in range(400):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


@contextlib.contextmanager
def rsyslog(folder: Path, auth: str = "", client: str = "dukcapil.test") -> Iterator[Rsyslog]:
    it = Rsyslog(folder, auth, client)
    it.start()
    try:
        yield it
    finally:
        it.stop()
