"""LAN, HOST, SYSLOG and TRAPS, the tables of detectors: a detector is a file here, or a class of one. Imports have no effects."""

from collections.abc import Callable

from agent.detect.arp import ArpAnomaly
from agent.detect.canary import NamePoisoner
from agent.detect.changed import AccountsChanged, KeysChanged, PersistenceChanged, SetuidNew, SudoersChanged
from agent.detect.conflicts import IpConflict
from agent.detect.devices import NewDevice
from agent.detect.dhcp import DhcpStarvation, RogueDhcp
from agent.detect.drift import DeviceDrift
from agent.detect.exposure import RouterExposed
from agent.detect.floods import Flood
from agent.detect.gateway import GatewayMac
from agent.detect.listeners import NewListener
from agent.detect.logins import BruteForce
from agent.detect.model import Detector, Vouched
from agent.detect.neighbours import NeighbourDrift
from agent.detect.poisoning import ArpPoisoning
from agent.detect.posture import ClockWrong, FirewallOff, RootDiskBad, UpdatesPending, UsbDevice
from agent.detect.router import RouterChanged, RouterLoginFailures, RouterLogins, RouterScanned, RouterSilent
from agent.detect.routers6 import RogueRa
from agent.detect.scans import PortScan
from agent.detect.service import ServiceLost
from agent.detect.storms import BroadcastStorm
from agent.detect.sweeps import ArpSweep
from agent.detect.traps import TrapAuthFailure, TrapColdStart, TrapLinkDown
from agent.detect.tripwires import Tripwire

LAN: tuple[Callable[[Vouched], Detector], ...] = (  # a detector's class; made anew for each task
    GatewayMac,
    IpConflict,
    ArpAnomaly,
    ArpPoisoning,
    ArpSweep,
    NewDevice,
    NeighbourDrift,
    DeviceDrift,
    RouterExposed,
    BroadcastStorm,
    RogueDhcp,
    DhcpStarvation,
    ServiceLost,
    RogueRa,
    PortScan,
    Tripwire,
    Flood,
    NamePoisoner,
)
HOST: tuple[Callable[[Vouched], Detector], ...] = (
    BruteForce,
    NewListener,
    AccountsChanged,
    SudoersChanged,
    KeysChanged,
    PersistenceChanged,
    SetuidNew,
    FirewallOff,
    UpdatesPending,
    ClockWrong,
    RootDiskBad,
    UsbDevice,
)
SYSLOG: tuple[Callable[[Vouched], Detector], ...] = (
    RouterLoginFailures,
    RouterLogins,
    RouterChanged,
    RouterScanned,
    RouterSilent,
)
TRAPS: tuple[Callable[[Vouched], Detector], ...] = (
    TrapAuthFailure,
    TrapLinkDown,
    TrapColdStart,
)
