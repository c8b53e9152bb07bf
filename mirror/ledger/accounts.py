"""What a blob is brought for, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.ledger.totals import Series, series
from mirror.ledger.values import Placing
from registry.reference import LAYOUT

_OUTCOMES = {"copied": "copied", "mounted": "mounted", "present": "exists", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class RegionBatch:
    """A batch, and the region whose workers bring its blobs."""

    batch: str
    region: str


def totals_of(region: str, host: str, placing: Placing, size: int) -> Series:
    """What is counted once it is known what became of a blob in one target."""
    told = {series("blobs", region=region, outcome=_OUTCOMES[placing.how]): 1}
    if placing.how == "copied":
        registry = "layout" if host == LAYOUT else host
        told[series("copied_bytes", region=region, registry=registry)] = size
    saved = "shared" if placing.is_shared else _OUTCOMES[placing.how]
    if saved in {"shared", "mounted", "exists"}:
        told[series("saved_bytes", region=region, how=saved)] = size
    return told
