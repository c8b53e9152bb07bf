"""From samples to what is said about them: medians by cell, phase and contender, and ratios."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from bench.trials import Phase, Sample

PHASES: tuple[Phase, ...] = ("full", "again", "moved")
NOISY = 0.3
"""Cores that others used in the median run: such a wall time reads too high."""


class Row(NamedTuple):
    """What contenders are compared in."""

    set: str
    targets: int
    phase: Phase

    @classmethod
    def of(cls, sample: Sample) -> Row:
        return cls(sample.set, sample.targets, sample.phase)


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of one contender's counting runs in one row."""

    contender: str
    is_peer: bool
    runs: int
    wall_s: float
    cpu_s: float
    peak_bytes: float
    servers_cpu_s: float
    noise: float
    source_requests: float
    source_heads: float
    source_manifest_reads: float
    source_repeated_reads: float
    source_bytes: float
    source_repeated_manifest_reads: float
    target_requests: float
    target_heads: float
    target_bytes: float


class Figures:
    """Every row and who took part in it; ``failures`` are runs that do not count."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = list(samples)
        self.failures = [sample for sample in self.samples if sample.problem]
        self._rows: dict[Row, dict[str, Figure]] = {}
        for row, name in dict.fromkeys((Row.of(s), s.contender) for s in self.samples):
            counting = [s for s in self.samples if Row.of(s) == row and s.contender == name]
            if counting := [s for s in counting if not s.problem]:
                self._rows.setdefault(row, {})[name] = _figure(counting)

    @property
    def rows(self) -> list[Row]:
        return sorted(self._rows, key=lambda row: (PHASES.index(row.phase), row.set, row.targets))

    def row(self, row: Row) -> dict[str, Figure]:
        """By contender, the fastest first; empty where nobody finished."""
        return dict(sorted(self._rows.get(row, {}).items(), key=lambda item: item[1].wall_s))

    def best_peer(self, row: Row) -> Figure | None:
        return next((figure for figure in self.row(row).values() if figure.is_peer), None)


def title(row: Row) -> str:
    """``A x 3``, ``A x 3 again``."""
    return f"{row.set} x {row.targets}" + ("" if row.phase == "full" else f" {row.phase}")


def _figure(samples: Sequence[Sample]) -> Figure:
    first, *_ = samples
    names = [name for name in Figure.__dataclass_fields__ if name not in {"contender", "is_peer", "runs"}]
    medians = {name: float(median(getattr(sample, name) for sample in samples)) for name in names}
    return Figure(contender=first.contender, is_peer=first.is_peer, runs=len(samples), **medians)
