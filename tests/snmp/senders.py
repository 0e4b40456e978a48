"""Real senders of notifications: net-snmp's snmptrap and snmpinform, as anybody of whom credentials tell.

Law: they keep their engine and its boots in the test's own folder (what they complain of is in `said` there), and read no
configuration of this box.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from agent.snmp.wire import Credentials
from tests.snmp.snmpd import NAMES

COLD, WARM, DOWN, UP, FAILURE = (f"1.3.6.1.6.3.1.1.5.{n}" for n in range(1, 6))
ENGINE = "80001f8804aabbcc01"
ETHER1 = ("1.3.6.1.2.1.2.2.1.1.3", "i", "3", "1.3.6.1.2.1.31.1.1.1.1.3", "s", "ether1")
ETHER2 = ("1.3.6.1.2.1.2.2.1.1.4", "i", "4")  # as RouterOS says it: without its name


def send(
    folder: Path, port: int, who: Credentials, trap: str, *values: str, inform: bool = False, source: str = "127.0.0.1",
    engine: str = ENGINE, boots: str = "3,1000", uptime: int = 4242, wait: bool = True,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Sends one. Version 1 for credentials of version "1". An inform is sent four times, 0.4 s apart, until it is acknowledged."""
    command = ["snmpinform" if inform else "snmptrap", *_who(who), "-r", "3", "-t", "0.4", f"--clientaddr={source}"]
    if who.version == "3" and not inform:
        command += ["-e", f"0x{engine}", "-Z", boots]
    told = _v1(trap, uptime) if who.version == "1" else [str(uptime), trap]
    environ = os.environ | {"SNMP_PERSISTENT_DIR": str(folder), "SNMPCONFPATH": str(folder), "MIBS": ""}
    said = folder / "said"
    with said.open("w") as problems:
        run = subprocess.Popen([*command, f"127.0.0.1:{port}", *told, *values], env=environ, stderr=problems)
    if wait:
        assert run.wait(timeout=20) == 0, said.read_text()
    return run


def _who(who: Credentials) -> Sequence[str]:
    if who.version != "3":
        return [f"-v{who.version}", "-c", who.community]
    level = {("none", "none"): "noAuthNoPriv"}.get((who.auth, who.privacy), "authNoPriv" if who.privacy == "none" else "authPriv")
    auth = ["-a", NAMES[who.auth], "-A", who.auth_password] if who.auth != "none" else []
    private = ["-x", NAMES[who.privacy], "-X", who.privacy_password] if who.privacy != "none" else []
    return ["-v3", "-u", who.user, "-l", level, *auth, *private]


def _v1(trap: str, uptime: int) -> list[str]:
    """Enterprise, agent's address, generic and specific number, uptime."""
    number = int(trap.rpartition(".")[2])
    standard = trap.startswith("1.3.6.1.6.3.1.1.5.")
    return ["1.3.6.1.4.1.14988.1", "192.0.2.1", *((str(number - 1), "0") if standard else ("6", str(number))), str(uptime)]
