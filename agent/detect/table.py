"""LAN and HOST, the tables of detectors: a detector is a file here, or a class of one. Imports have no effects."""

from collections.abc import Callable

from agent.detect.model import Detector, Vouched

LAN: tuple[Callable[[Vouched], Detector], ...] = ()  # a detector's class; made anew for each task
HOST: tuple[Callable[[Vouched], Detector], ...] = ()
