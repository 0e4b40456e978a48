"""A real net-snmp snmpd on loopback: a community, users of every kind, a table as long as is wanted; stopped and started at will.

Law: it keeps its engine id and counts its boots over restarts as a device does, until `forget` makes it another device.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.snmp.wire import Credentials, Device, Oid

COMMUNITY = "rahasia"
AUTH, PRIVACY = "kata-sandi-auth", "kata-sandi-priv"
USERS = {
    "tamu": Credentials("3", user="tamu"),
    "md5": Credentials("3", user="md5", auth="md5", auth_password=AUTH),
    "sha": Credentials("3", user="sha", auth="sha", auth_password=AUTH),
    "sha224": Credentials("3", user="sha224", auth="sha224", auth_password=AUTH),
    "des": Credentials("3", user="des", auth="md5", auth_password=AUTH, privacy="des", privacy_password=PRIVACY),
    "aes": Credentials("3", user="aes", auth="sha", auth_password=AUTH, privacy="aes", privacy_password=PRIVACY),
    "sha256aes": Credentials("3", user="sha256aes", auth="sha256", auth_password=AUTH, privacy="aes", privacy_password=PRIVACY),
    "kuat192": Credentials("3", user="kuat192", auth="sha384", auth_password=AUTH, privacy="aes192", privacy_password=PRIVACY),
    "kuat256": Credentials("3", user="kuat256", auth="sha512", auth_password=AUTH, privacy="aes256", privacy_password=PRIVACY),
}
NAMES = {
    "md5": "MD5", "sha": "SHA", "sha224": "SHA-224", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512",
    "des": "DES", "aes": "AES", "aes192": "AES-192", "aes256": "AES-256",
}  # fmt: skip
TABLE: Oid = (1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 1, 1)  # netSnmpPlaypen: for whatever one likes
# A GET of sysUpTime.0 in version 1, with the community above: what tells that it has begun to answer.
HELLO = bytes.fromhex("3027 020100 0407") + COMMUNITY.encode() + bytes.fromhex("a019020101020100020100300e300c06082b060102010103000500")


class Snmpd:
    """`rows`, `columns`: the table below TABLE: column c (from 1), row r (from 1) holds 1000·c+r, the last column the text "baris r".

    lines: more lines for its configuration. `versions`: what it answers of "1" and "2c" (users are always there).
    """

    def __init__(
        self, folder: Path, rows: int = 0, columns: int = 3, lines: Sequence[str] = (), versions: Sequence[str] = ("1", "2c")
    ) -> None:
        self.folder, self.address, self.port = folder, "127.0.0.1", free_udp_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "kept").mkdir(parents=True, exist_ok=True)
        text = [*_access(versions), *map(_user, USERS.values()), *_table(rows, columns), *lines]
        (folder / "snmpd.conf").write_text("\n".join(text) + "\n")

    def device(self, credentials: Credentials | None = None, **changes: object) -> Device:
        """It, as a device to ask; by the community in v2c if not said otherwise."""
        asked = Device(self.address, self.port, credentials or Credentials("2c", COMMUNITY), timeout=1.0, retries=1)
        return asked._replace(**changes)

    def start(self, wait: float = 10.0) -> None:
        listen = f"udp:{self.address}:{self.port}"
        command = ["snmpd", "-f", "-Lf", str(self.folder / "log"), "-C", "-c", str(self.folder / "snmpd.conf"), "-r", listen]
        env = {**os.environ, "SNMP_PERSISTENT_DIR": str(self.folder / "kept"), "MIBS": "", "MIBDIRS": ""}
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL)
        until = time.monotonic() + wait
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"snmpd doesn't answer:\n{(self.folder / 'log').read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def forget(self) -> None:
        """While it is stopped: its next start is with a new engine id and few boots, as of a device that was replaced."""
        shutil.rmtree(self.folder / "kept")
        (self.folder / "kept").mkdir()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.05)
            s.connect((self.address, self.port))
            with contextlib.suppress(OSError):
                s.send(HELLO)
                return bool(s.recv(1500))
        time.sleep(0.02)
        return False


def _access(versions: Sequence[str]) -> Iterator[str]:
    """`rocommunity` would let both versions in; by groups of VACM each version is let in or not."""
    yield "com2sec baca 127.0.0.1 " + COMMUNITY
    yield from (f"group baca v{v} baca" for v in sorted({"1", *versions}))
    yield "view semua included .1"
    yield 'access baca "" any noauth exact semua none none'


def _user(user: Credentials) -> str:
    words = ["createUser", user.user]
    if user.auth != "none":
        words += [NAMES[user.auth], user.auth_password]
    if user.privacy != "none":
        words += [NAMES[user.privacy], user.privacy_password]
    level = "authPriv" if user.privacy != "none" else "auth" if user.auth != "none" else "noauth"
    return f"{' '.join(words)}\nrouser {user.user} {level}"


def _table(rows: int, columns: int) -> Iterator[str]:
    for column in range(1, columns + 1):
        for row in range(1, rows + 1):
            value = f'octet_str "baris {row}"' if column == columns else f"integer {1000 * column + row}"
            yield f"override {'.'.join(map(str, (*TABLE, column, row)))} {value}"


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def running(folder: Path, **how: object) -> Iterator[Snmpd]:
    made = Snmpd(folder, **how)  # type: ignore[arg-type]
    try:
        made.start()
        yield made
    finally:
        made.stop()
