"""Which digests a batch is about: one HEAD per tag at the source, kept for the whole life of the batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mirror.engine import Engine
from mirror.ledger.batches import Resolved
from mirror.waits import next_attempt
from registry.errors import RegistryError, Transient
from registry.repository import Repository


def resolve(engine: Engine, batch: str) -> bool:
    """Resolve every tag that is not yet resolved; a tag that cannot be keeps the reason.

    False where the source is in trouble that may pass: the batch is parked until its next attempt.
    """
    ledger = engine.ledger.batches
    source = engine.open_source(ledger.run_of(batch))
    todo = [one for one in ledger.resolved(batch) if one.descriptor is None and not one.reason]
    generation, now = engine.ledger.next_generation(), engine.ledger.now()
    asked = [replace(one, generation=generation, at=now) for one in todo]
    with ThreadPoolExecutor(engine.limits.copy_threads) as pool:
        answers = list(pool.map(lambda one: _resolve(engine, source, one), asked))
    waits = [next_attempt(engine, batch, one) for one in answers if isinstance(one, Transient)]
    until = max((wait for wait in waits if wait is not None), default=None)
    ledger.set_resolved(
        batch,
        [
            _unresolved(one, answer) if isinstance(answer, RegistryError) else answer
            for one, answer in zip(todo, answers, strict=True)
            if until is None or not isinstance(answer, Transient)
        ],
    )
    if until is not None:
        engine.ledger.park(batch, "resolving", until)
        return False
    engine.ledger.no_trouble(batch)
    return True


def _resolve(engine: Engine, source: Repository, one: Resolved) -> Resolved | RegistryError:
    try:
        return replace(one, descriptor=engine.patience.attempt(lambda: source.resolve(one.ref)))
    except RegistryError as error:
        return error


def _unresolved(one: Resolved, error: RegistryError) -> Resolved:
    return Resolved(one.tag, one.ref, None, str(error), type(error).__name__)
