"""What the ledger says became of each tag: the fleet's own word, for others to be held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mirror.ledger import Ledger
from mirror.ledger.batches import Outcome
from mirror.ledger.keys import Client


class Where(NamedTuple):
    """One tag in one target; ``registry`` is the name of its proxy."""

    registry: str
    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.registry} {self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Told:
    """One tag of one batch; ``begun`` and ``ended`` are Unix times."""

    batch: str
    digest: str
    generation: int
    begun: float
    """When the source was asked what the tag is."""
    ended: float
    """When its run did, which is no earlier; never, where the run was failed or cancelled as a whole."""
    outcomes: dict[Where, Outcome]
    is_rollback: bool = False


TOLD_BY = (":outcomes", ":ended")
"""The keys of a batch that say what became of its tags: while it is open, and after."""


def tell(ledger: Ledger, client: Client, names: Mapping[str, str]) -> Iterator[Told]:
    """Every tag of every batch that was resolved; ``names`` are the registries' by their hosts."""
    root = ledger.keys.batch_root
    keys = (key.decode() for key in client.scan_iter(match=f"{root}*", count=1000))
    for batch in sorted({key.removeprefix(root).rpartition(":")[0] for key in keys if key.endswith(TOLD_BY)}):
        run = ledger.batches.run_of(batch)
        ended, is_rollback = _ended(client, ledger.keys.run(run)), ledger.spec(run).kind == "rollback"
        outcomes = ledger.batches.outcomes(batch)
        for one in ledger.batches.resolved(batch):
            if one.descriptor:
                found = {
                    _where(target, tag, names): outcome
                    for (tag, target), outcome in outcomes.items()
                    if tag == one.tag
                }
                yield Told(batch, one.descriptor.digest, one.generation, one.at, ended, found, is_rollback)


def _ended(client: Client, run: str) -> float:
    finished, error = client.hmget(run, "finished", "error")
    return float(finished) if finished and error is None else float("inf")


def _where(target: str, tag: str, names: Mapping[str, str]) -> Where:
    host, _, repository = target.partition("/")
    return Where(names[host], repository, tag)
