"""Where the recordings are: those of real devices in the corpus, which is no part of this project, and a few generated from MIBs.

Law: whoever reads them finds out which of the two a recording is; a test that had to do without the real ones says so.
"""

import os
import pathlib

HERE = pathlib.Path(__file__).parent
GENERATED = HERE / "generated"
REAL = pathlib.Path(os.environ.get("RONDA_CORPUS", HERE.parents[2] / "shared" / "corpus")) / "snmp"

REAL_NAMES = (
    "apc_smt750x-nmc2",
    "edgeswitch_us-8",
    "ios_2960x",
    "jetstream_vlans",
    "linux_ups-nut",
    "openwrt",
    "routeros",
    "routeros_rb750gr3",
)
GENERATED_NAMES = ("airos", "apc-old", "cisco", "linux", "mikrotik-lte", "mikrotik-old", "tplink", "ups-rfc1628")


def recording(name: str) -> pathlib.Path | None:
    """The file of this name; None, said, where the corpus isn't here."""
    path = (GENERATED if name in GENERATED_NAMES else REAL) / f"{name}.snmprec"
    if not path.is_file():
        print(f"{name}: the recording of this device is not here (shared/corpus/snmp): the generated ones stand for it")
        return None
    return path
