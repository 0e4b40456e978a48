"""Saved packets decoded for a person, by scapy, in a process of its own: `python -m agent.packets < FILE.pcap`.

Law: nothing else of Ronda imports this or scapy (its licence is GPL-2.0-only, its weight 34 MiB and more). Packets are a stranger's, and
so is what a decoder does with them: memory, time and their number are bounded, the network is not touched, and control characters never
reach the terminal. `run` is for whoever wants the text.
"""

import os
import resource
import subprocess
import sys
import tempfile

MAX_PACKETS = 20
SECONDS = 20
MEMORY = 768 << 20  # of addresses, not of pages
MAX_TEXT = 256 << 10


class PacketsError(Exception):
    """They can't be shown; str() says why, and what to do."""


def run(data: bytes) -> str:
    """What scapy makes of a pcap. Raises PacketsError."""
    with tempfile.TemporaryDirectory(prefix="ronda-packets-") as home:  # scapy looks for a config and a cache
        environment = {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
        if path := os.environ.get("PYTHONPATH"):
            environment["PYTHONPATH"] = path
        command = [sys.executable, "-P", "-m", "agent.packets"]  # -P: nothing of the directory where root happens to stand
        try:
            done = subprocess.run(command, input=data, capture_output=True, env=environment, timeout=SECONDS + 5, check=False)  # noqa: S603  (ourselves)
        except subprocess.TimeoutExpired:
            raise PacketsError(f"scapy took longer than {SECONDS} s") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise PacketsError(f"scapy can't show them ({_plain(why[-1])[:200] if why else done.returncode}); try: tcpdump -nvr FILE")
    return done.stdout.decode(errors="replace")[:MAX_TEXT]


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def main() -> int:
    """Reads a pcap from standard input. In its own process only: it bounds itself."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    try:
        import scapy.all  # noqa: F401  (it registers all layers)
        from scapy.utils import PcapReader
    except ImportError as e:
        print(f"scapy is not installed here: {e}", file=sys.stderr)
        return 1
    size = 0
    for n, packet in enumerate(PcapReader("/dev/stdin"), 1):
        text = _plain(f"{n:3}  {packet.summary()}\n{packet.show(dump=True)}")
        size += len(text)
        if n > MAX_PACKETS or size > MAX_TEXT:
            break
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
