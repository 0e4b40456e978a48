"""The 50 interfaces of W's switch as numbers that grow by chance: as many series as the IF-MIB of one has, of the same sorts.

`python -m tests.bench.switch run …` is the `ronda` command with this kind beside its own. It stands in for the devices of W, of which
nothing but the series matters here: they are exposed and pushed like any other's.
"""

import dataclasses
import random
import sys
from collections.abc import Iterable

import collectors
from agent import cli
from agent.collector import Env, Kind, ProbeConfig, Seen, succeeded
from agent.model import Metric
from agent.structure import Duration

INTERFACES = 50
_OF = ("device", "interface")
COUNTERS = tuple(
    Metric(f"ronda_snmp_interface_{way}_{what}_total", "As of IF-MIB.", "counter", _OF)
    for way in ("receive", "transmit")
    for what in ("bytes", "packets", "errors", "discards")
)
OPER = Metric("ronda_snmp_interface_up", "As of IF-MIB.", labels=_OF)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    interval: Duration = 60.0


class Switch:
    def __init__(self, config: Config, env: Env) -> None:
        self._dice = random.Random(config.target)
        self._values = [[0] * len(COUNTERS) for _ in range(INTERFACES)]

    async def collect(self) -> Iterable[Seen]:
        """Half of the ports are in use; errors and discards are rare."""
        seen: list[Seen] = [succeeded(0.05)]
        for n, values in enumerate(self._values):
            for i, (metric, value) in enumerate(zip(COUNTERS, values, strict=True)):
                often = n % 2 == 0 and ("bytes" in metric.name or "packets" in metric.name)
                values[i] = value + (self._dice.randrange(1_000_000) if often else self._dice.random() < 0.001)
                seen.append(metric(values[i], "switch", f"Gi0/{n}"))
            seen.append(OPER(float(n % 2 == 0), "switch", f"Gi0/{n}"))
        return seen


KIND = Kind("switch", Config, (*COUNTERS, OPER), Switch, probe=True, reasons=("timeout",))

if __name__ == "__main__":
    collectors.KINDS = {**collectors.KINDS, KIND.name: KIND}
    sys.exit(cli.main())
