"""How large a storm is, and how hard it blows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    tags: int
    each: int
    """How often each class of faults comes up at least."""
    gap_s: float
    """Mean time between two blows to machines and processes, if the fleet has got up again."""
    work: int
    """Exchanges with registries that say that it has."""
    share: float
    """Of the exchanges with registries that suffer a fault in bad weather."""
    moves_each: int
    longest_s: float
    push_s: float
    """Mean time between two pushes at sides of two-way mirrors."""
    long_outage_s: float = 0.0
    """One registry is away for this long once."""
    open_runs: int = 6
    seed: int = 20261124
    rate: float = 40.0


SMALL = Plan(
    tags=24, each=1, gap_s=0.8, work=20, share=0.03, moves_each=1, longest_s=150.0, push_s=0.8, open_runs=2
)
WHOLE = Plan(
    tags=300, each=50, gap_s=0.6, work=60, share=0.01, moves_each=3, longest_s=3600.0, push_s=1.0,
    long_outage_s=60.0, open_runs=4, rate=25.0,
)  # fmt: skip
