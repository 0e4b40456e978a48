"""A switch of 50 interfaces for W: a namespace with 24 veth pairs, real net-snmp over them, and frames on half of the pairs.

`python -m tests.bench.switch` is what sends these frames: a few each second, as many as chance wants, so that counters grow as on a switch
that is in use. The kernel's counters are what snmpd tells.
"""

import random
import socket
import sys
import time
from pathlib import Path

if __name__ != "__main__":  # what sends frames needs nothing of the lab
    from tests.lab.netns import Daemon, Lab, Namespace, until

PAIRS = 24
COMMUNITY, USER, AUTH, PRIVACY = "bench", "bench", "bench-auth-password", "bench-privacy-password"
CONFIG = f"""rocommunity {COMMUNITY}
createUser {USER} SHA-256 {AUTH} AES {PRIVACY}
rouser {USER} authpriv
sysName bench-switch
sysLocation lab
"""
BROADCAST = b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + b"\x88\xb5"  # EtherType for experiments (IEEE 802 local)


class Switch:
    """`addresses`: those that snmpd answers on, one a device as seen from outside."""

    def __init__(self, lab: Lab, name: str = "sw") -> None:
        self.lab, self.name, self.ns = lab, name, lab.namespace(name)
        self.addresses: list[str] = []
        self.snmpd: Daemon | None = None

    def wire(self, other: Namespace, device: str, network: str, count: int = 1) -> None:
        """A wire to `other`; the switch has `network`.10 and on, `other` has .1. Network like 10.77.4."""
        self.lab.link(other, device, f"{network}.1/24", self.ns, "up0", f"{network}.10/24")
        self.addresses = [f"{network}.{10 + n}" for n in range(count)]
        for address in self.addresses[1:]:
            self.ns.ip("address", "add", f"{address}/24", "dev", "up0")

    def start(self) -> None:
        """Ports, frames, snmpd; returns when snmpd answers."""
        for n in range(PAIRS):
            self.ns.ip("link", "add", f"a{n}", "type", "veth", "peer", "name", f"b{n}")
            for end in "ab":
                self.ns.ip("link", "set", f"{end}{n}", "up")
        self.ns.start(f"{self.name}-frames", sys.executable, str(Path(__file__)))
        config = self.lab.directory / f"{self.name}.conf"
        config.write_text(CONFIG)
        listen = ",".join(f"udp:{address}:161" for address in self.addresses)
        keeps = {"SNMP_PERSISTENT_DIR": str(self.lab.directory / f"{self.name}.kept"), "MIBS": ""}
        self.snmpd = self.ns.start(f"{self.name}-snmpd", "snmpd", "-f", "-Lo", "-C", "-c", str(config), listen, env=keeps)
        until(self._answers, 20, f"snmpd answers\n{self.snmpd.output()}")

    def _answers(self) -> bool:
        asked = self.ns.run("snmpget", "-v2c", "-c", COMMUNITY, "-Oqv", self.addresses[0], "1.3.6.1.2.1.2.1.0", check=False)
        return asked.stdout.strip() == str(2 * PAIRS + 2)

    def credentials(self, version: str) -> Path:
        """The file that the agent's config names: "2c", or "3" with SHA-256 and AES."""
        file = self.lab.directory / f"snmp-{version}.yaml"
        secret = f"user: {USER}\nauth: sha256\nauth_password: {AUTH}\nprivacy: aes\nprivacy_password: {PRIVACY}\n"
        file.write_text(f'version: "{version}"\n' + (secret if version == "3" else f"community: {COMMUNITY}\n"))
        file.chmod(0o600)
        return file


def main() -> None:
    """Frames on every other pair, until it is killed."""
    dice = random.Random(1)
    ports = []
    for n in range(0, PAIRS, 2):
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        port.bind((f"a{n}", 0))
        ports.append(port)
    while True:
        for port in ports:
            for _ in range(dice.randrange(8)):
                port.send(BROADCAST + bytes(dice.randrange(46, 1400)))
        time.sleep(1)


if __name__ == "__main__":
    main()
