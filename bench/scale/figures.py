"""From what was measured to what is said of it: rates, what a tag costs, and what was done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from bench.scale.keyspace import Kind
from bench.scale.trial import Outcome, Phase

LASTING = ("history",)
"""What is kept for good on purpose."""
CONCLUDED = ("batch", "batch: ended", "newest", "run", "run: progress")
"""Kinds of keys that say what became of tags; all others are caches, or of work that is under way."""
WORKING = ("batch: tags", "batch: outcomes", "batch: associates", "batch: due", "batch: placed")
Counts = Mapping[str, Any]


def copies(outcome: Outcome) -> list[Phase]:
    """The phases that make up the copying."""
    return [phase for phase in outcome.phases if phase.name in {"copied", "resumed"}]


def named(outcome: Outcome, name: str) -> tuple[Phase, Phase] | None:
    """The phase of that name, and the one before it; None where it was left out."""
    pairs = pairwise(outcome.phases)
    return next(((phase, before) for before, phase in pairs if phase.name == name), None)


def pulls(phase: Phase) -> int:
    """Since the source was started."""
    return int(phase.counts[0]["answers"].get("GET manifests 200", 0))


def rate(phases: Sequence[Phase]) -> float:
    """Tags a second, while nobody had paused it."""
    return sum(one.tags for one in phases) / max(sum(one.wall_s for one in phases), 1e-3)


def answers(counts: Iterable[Counts]) -> Counter[str]:
    """Requests by method and kind, whatever was answered."""
    total: Counter[str] = Counter()
    for one in counts:
        for name, number in one["answers"].items():
            total[name.rpartition(" ")[0]] += number
    return total


def asked(phase: Phase, before: Phase | None = None) -> tuple[Counter[str], Counter[str]]:
    """Requests at the source, and at all targets together; those of ``before`` taken off."""
    source, targets = answers(phase.counts[:1]), answers(phase.counts[1:])
    if before:
        source.subtract(answers(before.counts[:1]))
        targets.subtract(answers(before.counts[1:]))
    return +source, +targets


def repeated(phase: Phase) -> dict[str, int]:
    """Requests that an undisturbed run does not make, by what they were about, all registries together.

    Of looks at a tag an undisturbed run makes always the same number: the most common one.
    """
    source, *targets = phase.counts
    found = {
        "looks at source tags": beyond(source["looks"], usual(source["looks"])),
        "manifests read": beyond(source["reads"], 1),
        "configurations read": beyond(source["configs"], 1),
        "layers read": beyond(source["layers"], 1),
        "looks at target tags": sum(
            beyond(looks, usual(looks))
            for one in targets
            for looks in (one["looks"], one.get("looks_held", {}))  # older results have no second one
        ),
        "tags put": sum(one["again"].get("tag", 0) for one in targets),
        "manifests put": sum(one["again"].get("manifest", 0) for one in targets),
        "blobs put": sum(one["again"].get("blob", 0) for one in targets),
    }
    return {name: number for name, number in found.items() if number}


def usual(counts: Mapping[str, int]) -> int:
    """How often most were counted; never less than once."""
    return max(1, int(max(counts, key=lambda times: counts[times], default="1")))


def beyond(counts: Mapping[str, int], times: int) -> int:
    return sum((int(n) - times) * number for n, number in counts.items() if int(n) > times)


def most_messages(phases: Sequence[Phase]) -> int:
    return max(sample.messages for phase in phases for sample in phase.samples)


def most_in_flight(phases: Sequence[Phase]) -> int:
    return max(sample.in_flight for phase in phases for sample in phase.samples)


def worker_bytes(phases: Sequence[Phase], share: float) -> int:
    """Memory of the largest worker process when that share of the tags was concluded."""
    samples = [sample for phase in phases for sample in phase.samples]
    wanted = share * samples[-1].concluded
    return next(sample.worker_bytes for sample in samples if sample.concluded >= wanted)


def bytes_of(kinds: Sequence[Kind], names: Iterable[str]) -> int:
    wanted = set(names)
    return sum(kind.bytes for kind in kinds if kind.name in wanted)
