"""The office of the tests and what lies behind it.

    office ──── gateway ──── isp ──── internet        centre ──── office
    10.77.1.2   .1.1/.2.1    .2.2/.3.1  10.77.3.2     10.77.9.1   10.77.9.2

Law: real daemons only. The internet host answers HTTP on 80 and 8080 to 8084, HTTPS on 443 (a certificate of the lab's own CA, for
www.lab.test and 10.77.3.2), DNS for *.lab.test, and pings on 10.77.3.2 and 10.77.3.11 to .19.
"""

from pathlib import Path

import trustme

from tests.lab.netns import Daemon, Lab, Namespace, until

GATEWAY, ISP, INTERNET, CENTRE, OFFICE = "10.77.1.1", "10.77.2.2", "10.77.3.2", "10.77.9.1", "10.77.9.2"
WIRES = {"lan": ("gateway", "lan0"), "wan": ("isp", "dn0"), "internet": ("isp", "up0"), "centre": ("centre", "mon0")}

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr; user root;
events {{ worker_connections 256; }}
http {{
  access_log off;
  server {{ listen 80; listen 8080; listen 8081; listen 8082; listen 8083; listen 8084;
    listen 443 ssl; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    location / {{ root {dir}/www; }} }}
}}
"""


class Office(Lab):
    """The whole picture, wired and routed. Daemons are started by the test: `nginx()`, `dnsmasq()`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.office = self.namespace("office", resolver=INTERNET)
        self.gateway, self.isp = self.namespace("gateway"), self.namespace("isp")
        self.internet, self.centre = self.namespace("internet"), self.namespace("centre")
        self.link(self.office, "lan0", "10.77.1.2/24", self.gateway, "lan0", "10.77.1.1/24")
        self.link(self.gateway, "wan0", "10.77.2.1/24", self.isp, "dn0", "10.77.2.2/24")
        self.link(self.isp, "up0", "10.77.3.1/24", self.internet, "eth0", "10.77.3.2/24")
        self.link(self.office, "mon0", "10.77.9.2/24", self.centre, "mon0", "10.77.9.1/24")
        for router in (self.gateway, self.isp):
            router.sysctl(net__ipv4__ip_forward="1")
        for last in range(11, 20):
            self.internet.ip("address", "add", f"10.77.3.{last}/24", "dev", "eth0")
        self._route()

    def _route(self) -> None:
        self.office.ip("route", "replace", "default", "via", "10.77.1.1")
        self.gateway.ip("route", "replace", "default", "via", "10.77.2.2")
        self.isp.ip("route", "replace", "10.77.1.0/24", "via", "10.77.2.1")
        self.internet.ip("route", "replace", "default", "via", "10.77.3.1")

    def cut(self, wire: str) -> None:
        """Pulls a wire of WIRES at its far end: the near side sees the carrier go."""
        side, name = WIRES[wire]
        self._side(side).ip("link", "set", name, "down")

    def join(self, wire: str) -> None:
        """Plugs it in again; routes that went with the interface come back."""
        side, name = WIRES[wire]
        self._side(side).ip("link", "set", name, "up")
        self._route()

    def lose(self, on: bool) -> None:
        """The ISP drops all that goes to the internet, and nobody sees a carrier go."""
        self.isp.ip("route", "add" if on else "del", "blackhole", "10.77.3.2/32")

    def _side(self, name: str) -> Namespace:
        side = getattr(self, name)
        assert isinstance(side, Namespace)
        return side

    def ca(self) -> Path:
        """The lab's own certificate authority as a PEM file; made with the web server's certificate at first use."""
        pem = self.directory / "ca.pem"
        if not pem.exists():
            ca = trustme.CA()
            leaf = ca.issue_cert("www.lab.test", INTERNET)
            leaf.private_key_pem.write_to_path(str(self.directory / "key.pem"))
            (self.directory / "cert.pem").write_bytes(b"".join(b.bytes() for b in leaf.cert_chain_pems))
            ca.cert_pem.write_to_path(str(pem))
        return pem

    def nginx(self, body: str = "SIAK siap") -> Daemon:
        """The web server of the internet host; stop it to have a service die, start it again to heal."""
        self.ca()
        (self.directory / "www").mkdir(exist_ok=True)
        (self.directory / "www/index.html").write_text(body)
        (self.directory / "nginx.conf").write_text(NGINX.format(dir=self.directory))
        daemon = self.internet.start("nginx", "nginx", "-e", "stderr", "-p", str(self.directory), "-c", str(self.directory / "nginx.conf"))
        until(lambda: self.internet.get(f"http://{INTERNET}/"), 20, f"nginx answers\n{daemon.output()}")
        return daemon

    def dnsmasq(self) -> Daemon:
        """The resolver: *.lab.test is the internet host, all else is refused."""
        options = ["--no-resolv", "--no-hosts", "--no-poll", "--user=root", "--pid-file=", "--conf-file=/dev/null"]
        return self.internet.start("dnsmasq", "dnsmasq", "-k", *options, "--log-facility=-", f"--address=/lab.test/{INTERNET}")
