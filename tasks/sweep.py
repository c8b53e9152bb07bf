"""The sweeper: finds what stopped moving, from the ledger alone, and sends it on.

It needs no chord state, so it heals whatever was lost: a message, a chord, its body, a worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from celery import shared_task

from mirror import decide
from mirror.ledger import Ledger, LedgerError
from mirror.ledger.batches import BatchState
from tasks import canvas
from tasks.runtime import Runtime, runtime
from tasks.steps import open_window

logger = logging.getLogger(__name__)

MAX_SWEEPS = 20
"""A batch that was sent on so often without coming to an end is ended, with that reason."""


@shared_task(name="sealift.sweep")
def sweep_task(older_than_s: float | None = None) -> None:
    """Send on every run and batch whose wait is over or that has not moved for ``stall_s``.

    What a sweeper takes it has: any number of them at once send it on once. ``older_than_s`` replaces
    ``stall_s`` where nobody can be at work: 0 when a fleet is started alone.
    """
    rt = runtime()
    for member in rt.ledger.take_due(rt.settings.stall_s if older_than_s is None else older_than_s):
        try:
            _send_on(rt, member) if "." in member else _send_on_run(rt, member)
        except LedgerError:
            raise
        except Exception:  # whatever is wrong with one must not keep the sweeper from all others
            logger.exception("cannot send on %s; it is looked at again", member)


def _send_on_run(rt: Runtime, run: str) -> None:
    _, listed = rt.ledger.cursor(run)
    if listed:
        open_window(rt, run)
    else:
        canvas.send_enumerate(rt.ledger, run)


def _send_on(rt: Runtime, batch: str) -> None:
    state = rt.ledger.batches.state(batch)
    todo = _regions_to_do(rt, batch, state)
    alive = rt.ledger.live_regions()
    # Without a worker nothing can be lost but time: the message waits in the queue as the batch does here.
    reachable = [region for region in todo if region in alive]
    if todo and not reachable:
        return
    if rt.ledger.batches.swept(batch) > MAX_SWEEPS:
        reason = f"stopped moving {MAX_SWEEPS} times while {state}; see the workers' logs"
        if decide.give_up(rt.engine, batch, reason).step == "concluded":
            open_window(rt, rt.ledger.batches.run_of(batch))
    elif todo:
        for region in reachable:
            _SEND_TO_REGION[state](rt.ledger, batch, region)
    elif state in _SEND_DECISION:
        _SEND_DECISION[state](rt.ledger, batch)


def _regions_to_do(rt: Runtime, batch: str, state: BatchState) -> list[str]:
    """Regions that have not taken the batch's present step; none where it is taken without them."""
    step = _STEP.get(state)
    if step is None:
        return []
    regions = rt.ledger.spec(rt.ledger.batches.run_of(batch)).regions
    done = rt.ledger.batches.regions_done(batch, step)
    return [region for region in regions if region not in done]


_STEP: dict[BatchState, Literal["landed", "flipped", "returned"]] = {
    "landing": "landed",
    "flipping": "flipped",
    "returning": "returned",
}
_SEND_TO_REGION: dict[BatchState, Callable[[Ledger, str, str], None]] = {
    "landing": canvas.send_land,
    "flipping": canvas.send_flip,
    "returning": canvas.send_unflip,
}
_SEND_DECISION: dict[BatchState, Callable[[Ledger, str], None]] = {
    "resolving": canvas.send_resolve,
    "landing": canvas.send_finalize,
    "flipping": canvas.send_conclude,
    "returning": canvas.send_conclude,
}
