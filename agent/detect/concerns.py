"""Which of a task's open findings somebody must look at now, for its own page: those that are told as critical or high.

Law: pure; from the samples that the task tells anyway (agent/detect/casebook.py), so that the page and the centre say the same.
"""

import math
from collections.abc import Sequence

from agent.detect.casebook import ACTIVE, OPENED, PAGES
from agent.model import Concern, Sample


def concerns(samples: Sequence[Sample]) -> tuple[Concern, ...]:
    """The gravest first."""
    since = {sample.labels: float(math.floor(sample.value)) for sample in samples if sample.metric is OPENED}
    now = [sample.labels for sample in samples if sample.metric is ACTIVE and sample.value and sample.labels[1] in PAGES]
    found = [Concern(labels[0], labels[1], since.get(labels, 0.0)) for labels in now]
    return tuple(sorted(found, key=lambda one: (one.grade != "critical", one.since)))
