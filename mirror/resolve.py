"""Which digests a batch is about: one HEAD per tag at the source, kept for the whole life of the batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from mirror.engine import Engine
from mirror.ledger.batches import Resolved
from registry.errors import RegistryError
from registry.repository import Repository


def resolve(engine: Engine, batch: str) -> list[Resolved]:
    """Resolve every tag that is not yet resolved; a tag that cannot be keeps the reason."""
    spec = engine.ledger.spec(engine.ledger.batches.run_of(batch))
    source = engine.open_repository(spec.source)
    known = {one.tag: one for one in engine.ledger.batches.resolved(batch)}
    todo = [one for one in known.values() if one.descriptor is None and not one.reason]
    with ThreadPoolExecutor(engine.limits.copy_threads) as pool:
        answers = list(pool.map(lambda one: _resolve(engine, source, one), todo))
    engine.ledger.batches.set_resolved(batch, answers)
    return engine.ledger.batches.resolved(batch)


def _resolve(engine: Engine, source: Repository, one: Resolved) -> Resolved:
    try:
        descriptor = engine.patience.attempt(lambda: source.resolve(one.ref))
    except RegistryError as error:
        return Resolved(one.tag, one.ref, None, str(error), type(error).__name__)
    return Resolved(one.tag, one.ref, descriptor)
