"""What detectors are given: observations, typed, whoever made them (capture, a file, a log, a table of the kernel).

Law: pure data, no I/O. MACs are text, `aa:bb:cc:dd:ee:ff`; addresses are text as `ipaddress` writes them; "" where there is none. An
observation carries no time: whoever hands it over says when it was (monotonic seconds live; in a replay the file's own time, which
never goes back). A detector must bear any value in any field: frames are made by whoever is on the wire.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

BROADCAST, NO_MAC = "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"
RONDA_MAC = "02:52:4f:4e"  # how the MAC of a DHCP probe of any Ronda begins: locally administered, "RON"


class Frame(NamedTuple):
    """The frame that an observation was read from. `raw` is as captured, and may be cut; it is what evidence is made of."""

    source: str
    target: str
    direction: Literal["in", "out", "unknown"] = "unknown"
    raw: bytes = b""


# -- from the wire ---------------------------------------------------------------------------------------------------------------


class Arp(NamedTuple):
    """RFC 826; `op` 1 asks, 2 answers."""

    frame: Frame
    op: int
    sender_mac: str
    sender: str
    target_mac: str
    target: str


class Dhcp(NamedTuple):
    """RFC 2131. `type`: discover offer request decline ack nak release inform, or "" (BOOTP). `source`: the IP packet's own."""

    frame: Frame
    type: str
    xid: int
    client_mac: str
    source: str = ""
    offered: str = ""  # yiaddr
    relay: str = ""  # giaddr
    server: str = ""  # option 54: the server, or the one that the client chose
    requested: str = ""  # option 50
    routers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    hostname: str = ""
    vendor: str = ""
    broadcast: bool = False


class Dhcp6(NamedTuple):
    """RFC 8415. `type`: solicit advertise request reply ... information-request; `duids` are hexadecimal."""

    frame: Frame
    type: str
    source: str = ""
    client_duid: str = ""
    server_duid: str = ""
    dns: tuple[str, ...] = ()


class Prefix(NamedTuple):
    network: str  # "fd00::/64"
    valid: int
    preferred: int
    autonomous: bool


class RouterAdvert(NamedTuple):
    """RFC 4861. `preference`: high medium low (RFC 4191); `hops` must be 255, or a router has passed it on."""

    frame: Frame
    source: str
    hops: int
    lifetime: int
    preference: str
    managed: bool = False
    other: bool = False
    prefixes: tuple[Prefix, ...] = ()
    dns: tuple[str, ...] = ()  # RDNSS, RFC 8106
    mac: str = ""  # source link-layer address option


class Neighbour(NamedTuple):
    """Neighbour discovery, RFC 4861: `type` solicit or advert; `mac` from the link-layer address option."""

    frame: Frame
    type: Literal["solicit", "advert"]
    source: str
    target: str
    mac: str = ""
    override: bool = False


class Contact(NamedTuple):
    """One step of a first contact; `source` is always who began it, `target` whom it asked.

    asked: a TCP SYN; open: its SYN-ACK; closed: its RST+ACK with sequence 0, or the ICMP "port unreachable" of a UDP packet (never asked
    before, and perhaps of a late answer: then `port` is the asker's).
    """

    frame: Frame
    protocol: Literal["tcp", "udp"]
    step: Literal["asked", "open", "closed"]
    source: str
    target: str
    port: int


class Packet(NamedTuple):
    """An IP packet of which only the addresses matter: a sample of them; who comes from afar shows the gateway's MAC."""

    frame: Frame
    source: str
    target: str


class NameQuery(NamedTuple):
    """A question to everybody: LLMNR (RFC 4795), NBNS (RFC 1002), mDNS (RFC 6762)."""

    frame: Frame
    protocol: Literal["llmnr", "nbns", "mdns"]
    source: str
    name: str


class NameAnswer(NamedTuple):
    frame: Frame
    protocol: Literal["llmnr", "nbns", "mdns"]
    source: str
    name: str
    addresses: tuple[str, ...] = ()


class Identity(NamedTuple):
    """What a device says of itself: MikroTik's MNDP, LLDP (IEEE 802.1AB), CDP. `uptime` in seconds, -1: not said."""

    frame: Frame
    protocol: Literal["mndp", "lldp", "cdp"]
    mac: str
    name: str = ""
    board: str = ""
    version: str = ""
    port: str = ""
    uptime: float = -1.0


class SpanningTree(NamedTuple):
    """IEEE 802.1D: `changed` is a topology change, told or flagged."""

    frame: Frame
    root: str
    bridge: str
    changed: bool


# -- from this box and its own probes ---------------------------------------------------------------------------------------------


class Network(NamedTuple):
    """Where this box stands now; comes at the start and whenever it changes. networks: those on the wire, "192.0.2.0/24"; cards: the MACs
    of this box's other devices, which may be on the same wire.
    """

    device: str
    mac: str
    addresses: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()


class Carrier(NamedTuple):
    """The cable came or went."""

    up: bool


class Neighbours(NamedTuple):
    """The kernel's own table of who is on the wire: address → MAC, complete entries only."""

    entries: Mapping[str, str]


class Counters(NamedTuple):
    """Counters of this box since it came up. The first three are what the capture's sockets have let through, read or not.

    contacts, lan, broadcast; contacts_lost, lan_lost; then of proc/net/netstat and snmp: ListenDrops ListenOverflows
    TCPReqQFullDoCookies SyncookiesSent TCPSynRetrans NoPorts InErrors RcvbufErrors, and half_open (TCP sockets in SYN_RECV; 0 also where
    they were not counted, since nothing says that there are many)
    """

    values: Mapping[str, float]


class DhcpProbe(NamedTuple):
    """One DISCOVER of ours and every offer that came for it (RFC 2131, with the broadcast flag)."""

    xid: int
    offers: tuple[Dhcp, ...]


class ArpProbe(NamedTuple):
    """Three ARP probes (RFC 5227) for an address, and the MACs that answered."""

    target: str
    macs: tuple[str, ...]
    frames: tuple[Frame, ...] = ()


class Canary(NamedTuple):
    """One question for a name that cannot exist, and who answered: (address, MAC or "")."""

    protocol: Literal["llmnr", "nbns", "mdns"]
    name: str
    answered: tuple[tuple[str, str], ...] = ()


class Tripwire(NamedTuple):
    """Somebody completed a TCP connection to a port of ours that serves nothing. `sent`: bytes that came before it was closed."""

    source: str
    port: int
    sent: int = 0


# -- from this host ---------------------------------------------------------------------------------------------------------------


class Login(NamedTuple):
    """One try to log in, from the journal or auth.log. `session` ties the lines of one try together (the process's id)."""

    service: str  # sshd sudo su login
    user: str
    source: str  # address, or "" for the console
    success: bool
    method: str = ""
    session: str = ""
    times: int = 1  # `message repeated N times`


class Listener(NamedTuple):
    protocol: Literal["tcp", "udp"]
    address: str
    port: int
    program: str = ""  # path of the executable, "" where it can't be read
    user: int = -1


class Listeners(NamedTuple):
    """All sockets that wait for strangers, now."""

    listeners: tuple[Listener, ...]


class FileState(NamedTuple):
    """`digest` "" where it can't be read. packaged: it is as its package brought it (dpkg's md5sums), None: of no package.

    age: seconds since its content, owner or mode was last changed, as the kernel has it (ctime); -1: not known
    """

    digest: str
    mode: int
    owner: int
    packaged: bool | None = None
    age: float = -1.0


class Files(NamedTuple):
    """The watched files of one class, now. `facts`: what was read from them, e.g. users with uid 0; unread: paths that can't be."""

    group: Literal["accounts", "sudoers", "keys", "persistence", "setuid"]
    files: Mapping[str, FileState]
    facts: Mapping[str, tuple[str, ...]] = {}
    unread: tuple[str, ...] = ()


class Packages(NamedTuple):
    """When the package manager last changed something: seconds ago; -1: not known. began: when that work of it did, seconds ago."""

    ago: float
    began: float = -1.0


class Firewall(NamedTuple):
    """readable False: this process may not look. guarded: something refuses what nobody asked for (policy drop, or a rule that does)."""

    readable: bool
    guarded: bool = False
    rules: int = 0
    digest: str = ""


class Updates(NamedTuple):
    """Pending security updates; ages in seconds, -1: not known. lists: since package lists were last fetched.

    names: "package version" of those that are pending; why: a reason that not all is known, as coverage has them, "" if all is
    """

    pending: int
    oldest: float
    lists: float
    reboot: bool
    names: tuple[str, ...] = ()
    why: str = ""


class TimeState(NamedTuple):
    """offset: this clock minus the centre's (or a time server's), seconds; None: not known."""

    synchronised: bool
    offset: float | None = None


class RootDisk(NamedTuple):
    """errors: I/O errors of the root's device since boot; -1: not known."""

    read_only: bool
    errors: int = -1


class Usb(NamedTuple):
    """What is plugged in: "bus-port" → class (storage, hid, network, …)."""

    devices: Mapping[str, str]


# -- from the office's devices: SNMP, their syslog, their traps -------------------------------------------------------------------
# `device` is the name of the task or sender in the config: a word that people gave, e.g. "router"


class Interfaces(NamedTuple):
    """A device's interfaces, ifIndex → name: what a trap means that names one by its number."""

    device: str
    names: Mapping[int, str]


class RouterArp(NamedTuple):
    """A router's ARP and neighbour table, address → MAC. `static`: addresses whose entry somebody has set by hand, or the router's own."""

    device: str
    entries: Mapping[str, str]
    static: frozenset[str] = frozenset()


class Bridge(NamedTuple):
    """A switch's table of where MACs are: MAC → port's name. `shared`: ports behind which there is another switch, as far as is known."""

    device: str
    ports: Mapping[str, str]
    shared: frozenset[str] = frozenset()


class DeviceIdentity(NamedTuple):
    """Who a device says it is, by SNMP. `kind`: its sysObjectID; "" and -1 where it doesn't say."""

    device: str
    name: str = ""
    kind: str = ""
    model: str = ""
    version: str = ""
    serial: str = ""
    uptime: float = -1.0


class Exposed(NamedTuple):
    """One look at what the gateway offers to this network: TCP ports that took a connection, and whether SNMP answers to `public`.

    snmp: "1", "2c" or "" (nobody answered to `public`)
    """

    target: str
    ports: tuple[int, ...]
    snmp: str = ""


class RouterLogin(NamedTuple):
    """A line of a router's log: somebody tried to log in, or did. `via`: winbox ssh telnet web api ftp local ...

    source: an address, or the MAC of who came without one, "" where none is told; written: the time as the device wrote it
    in_hours: whether it came when people work there; None: the clock isn't known to be right
    """

    device: str
    user: str
    source: str
    via: str
    success: bool
    times: int = 1
    written: str = ""
    in_hours: bool | None = None


class RouterChange(NamedTuple):
    """A line of a router's log: its configuration was changed. `area`: user service firewall dns script scheduler ... or "other".

    source, written: as RouterLogin's; text: what was done, without names and passwords
    """

    device: str
    user: str
    source: str
    via: str
    area: str
    text: str
    written: str = ""


class RouterDrop(NamedTuple):
    """A line of a router's log: its firewall refused a packet. `inside`: it came from the office's side; None: not told."""

    device: str
    protocol: str
    source: str
    target: str
    port: int
    inside: bool | None = None


class DeviceHeard(NamedTuple):
    """A device of which logs or traps are expected has spoken, whatever it said."""

    device: str


class Trap(NamedTuple):
    """SNMP trap or inform. `name`: cold_start warm_start link_down link_up authentication_failure egp_neighbour_loss, else "other".

    about: the interface's name or number where it is about one; oid: the trap's own
    source: whom the device has refused, where it says so
    """

    device: str
    name: str
    about: str = ""
    oid: str = ""
    source: str = ""


Observation: TypeAlias = (
    Arp | Dhcp | Dhcp6 | RouterAdvert | Neighbour | Contact | Packet | NameQuery | NameAnswer | Identity | SpanningTree
    | Network | Carrier | Neighbours | Counters | DhcpProbe | ArpProbe | Canary | Tripwire
    | Login | Listeners | Files | Packages | Firewall | Updates | TimeState | RootDisk | Usb
    | RouterArp | DeviceIdentity | Exposed | RouterLogin | RouterChange | RouterDrop | DeviceHeard | Trap
)  # fmt: skip
