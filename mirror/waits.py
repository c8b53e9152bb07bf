"""When work waits in the ledger instead of failing: transient faults that outlast one task's patience.

Nothing waits in a worker's slot for longer than :class:`mirror.retry.Patience` allows. What then still
fails is noted with the time of its next attempt, its batch is parked in the ledger, and the sweeper sends
it on. A registry that says how long to wait is given that long, however long; one that only fails is
tried again with growing pauses until ``Engine.outage_s`` after its trouble began.
"""

from __future__ import annotations

from mirror.engine import Engine
from mirror.ledger import NotConfirmed
from mirror.ledger.batches import BatchState, Outcome, Placing
from mirror.telling import tell_wait
from registry.errors import RegistryError, Throttled, Transient

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
PROMISE_PAUSE_S = 30.0
"""Until it is asked again whether what tags were is safe: each time takes a worker's slot for 5 seconds."""
TRANSIENT_KINDS = frozenset({Transient.__name__, "Unreachable", Throttled.__name__})


def next_attempt(engine: Engine, member: str, error: Exception) -> float | None:
    """When ``member`` (a run or a batch) may try again, in Unix time; None where the fault is for good."""
    if not isinstance(error, Transient):
        return None
    asked = error.retry_after_s if isinstance(error, Throttled) else None
    return _next_attempt(engine, member, str(error), asked)


def _next_attempt(engine: Engine, member: str, reason: str, retry_after_s: float | None) -> float | None:
    until = _until(engine, member, retry_after_s)
    if until is not None:
        engine.ledger.note_wait(member, reason, until)  # for whoever watches: nothing else would say why
    return until


def _until(engine: Engine, member: str, retry_after_s: float | None) -> float | None:
    now = engine.ledger.now()
    if retry_after_s is not None:
        return now + retry_after_s
    since, until = engine.ledger.trouble(member, FIRST_PAUSE_S, LONGEST_PAUSE_S)
    return until if engine.outage_s and now - since < engine.outage_s else None


def wait_for_promise(engine: Engine, batch: str, state: BatchState, error: NotConfirmed) -> None:
    """No tag moves until Redis confirms what it was: the batch waits, however long that takes.

    One whose other regions still land is not held up: its finalizer moves what is ready.
    """
    until = engine.ledger.now() + PROMISE_PAUSE_S
    engine.ledger.note_wait(batch, str(error), until)
    if state == "flipping" and engine.ledger.park(batch, state, until):
        tell_wait(batch, str(error), until)


def failure(
    engine: Engine, batch: str, error: RegistryError | Exception, previous: str | None = None
) -> Outcome:
    """What an error makes of a tag in a target: ``waiting`` where it may pass, else ``failed``."""
    until = next_attempt(engine, batch, error)
    return _outcome(Outcome.failed(error, previous), until)


def placing_failure(engine: Engine, batch: str, placing: Placing, previous: str | None) -> Outcome:
    """The same for a blob that could not be placed."""
    until = None
    if placing.kind in TRANSIENT_KINDS:
        until = _next_attempt(engine, batch, placing.reason, placing.retry_after_s)
    return _outcome(Outcome("failed", placing.reason, placing.kind, previous), until)


def _outcome(failed: Outcome, until: float | None) -> Outcome:
    if until is None:
        return failed
    return Outcome("waiting", failed.reason, failed.kind, failed.previous, at=until)
