"""The sweeper: finds what stopped moving, from the ledger alone, and sends it on.

It needs no chord state, so it heals whatever was lost: a message, a chord, its body, a worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property

from celery import shared_task

from mirror import decide
from mirror.ledger import Ledger, LedgerError
from mirror.ledger.batches import STEP_OF, BatchState
from tasks import canvas, producer
from tasks.about import fields_of_member
from tasks.canvas import mark
from tasks.notify import send_due
from tasks.pruning import send_lost_prunes
from tasks.runtime import Runtime, runtime
from tasks.steps import AT_WORK, open_window

logger = logging.getLogger(__name__)

MAX_SWEEPS = 20
"""A batch that was sent on so often without coming to an end is ended, with that reason."""


@shared_task(name="sealift.sweep", send_events=False)  # one every few seconds would bury all others in Flower
def sweep_task(older_than_s: float | None = None) -> None:
    """Send on every run and batch whose wait is over or that has not moved for ``stall_s``.

    What a sweeper takes it has: any number of them at once send it on once. ``older_than_s`` replaces
    ``stall_s`` where nobody can be at work: 0 when a fleet is started alone.
    """
    rt = runtime()
    queues = Queues(rt)
    for member in rt.ledger.take_due(rt.settings.stall_s if older_than_s is None else older_than_s):
        try:
            _send_on(rt, queues, member) if "." in member else _send_on_run(rt, queues, member)
        except LedgerError:
            raise
        except Exception:  # whatever is wrong with one must not keep the sweeper from all others
            about = fields_of_member(member)
            logger.exception("cannot send on %s; it is looked at again", member, extra=about)
    send_due(rt)


class Queues:
    """What one sweep sees waiting in the queues, and who is there to take it: read when first asked about."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._read: dict[str, bytes] = {}

    @cached_property
    def live_regions(self) -> set[str]:
        """Regions with a living worker."""
        return self._rt.ledger.live_regions()

    def hold(self, queue: str, mark: str) -> bool:
        """Whether a message waits whose task id begins so."""
        if queue not in self._read:
            self._read[queue] = b"\n".join(self._rt.messages(queue))
        return f'"{mark}'.encode() in self._read[queue]


def _send_on_run(rt: Runtime, queues: Queues, run: str) -> None:
    """A message that asked for the list may be lost, and with it whoever would have asked again."""
    open_window(rt, run)
    send_lost_prunes(rt, run, queues.hold)
    producer.repair_if_due(rt, run)


def _send_on(rt: Runtime, queues: Queues, batch: str) -> None:
    """Send on what nobody is at and no queue holds: that alone is lost, and that alone is counted."""
    state = rt.ledger.batches.state(batch)
    sole = canvas.sole_region(rt.ledger, batch) if state in _DECISION else None
    todo = [sole] if sole else _regions_to_do(rt, batch, state)
    lost = [region for region in todo if _is_lost(rt, queues, batch, region, state)]
    if todo and not lost:
        return
    decision = _DECISION.get(state)
    if not todo and (decision is None or queues.hold(canvas.CONTROL_QUEUE, mark(decision, batch))):
        return
    if rt.ledger.batches.swept(batch) > MAX_SWEEPS:
        _end(rt, batch, state)
        return
    if sole:
        canvas.send_mirror(rt.ledger, batch, first=state in _MOVING)
        return
    for region in lost:
        _SEND_TO_REGION[state](rt.ledger, batch, region)
    if not todo:
        _SEND_DECISION[state](rt.ledger, batch)


def _end(rt: Runtime, batch: str, state: BatchState) -> None:
    reason = f"stopped moving {MAX_SWEEPS} times while {state}; see the workers' logs"
    if decide.give_up(rt.engine, batch, reason).step == "concluded":
        open_window(rt, rt.ledger.batches.run_of(batch))


def _is_lost(rt: Runtime, queues: Queues, batch: str, region: str, state: BatchState) -> bool:
    """Whether nobody in the region is at the batch or will come to it by a message that waits there."""
    names = ("mirror", "haul", *([_HEADER[state]] if state in _HEADER else []))
    return _is_nobodys(rt, queues, batch, region) and not any(
        queues.hold(region, mark(name, batch, region)) for name in names
    )


def _is_nobodys(rt: Runtime, queues: Queues, batch: str, region: str) -> bool:
    """Whether a living region has nobody at the batch; without a worker nothing can be lost but time."""
    if region not in queues.live_regions:
        return False
    return not rt.ledger.content.leases.is_held(AT_WORK.format(region), batch)


def _regions_to_do(rt: Runtime, batch: str, state: BatchState) -> list[str]:
    """Regions that have not taken the batch's present step; none where it is taken without them."""
    if state not in STEP_OF:
        return []
    regions = rt.ledger.spec(rt.ledger.batches.run_of(batch)).regions
    done = rt.ledger.batches.regions_done(batch, STEP_OF[state])
    return [region for region in regions if region not in done]


_HEADER: dict[BatchState, str] = {"landing": "land", "flipping": "flip", "returning": "unflip"}
_MOVING: frozenset[BatchState] = frozenset({"flipping", "returning"})
_DECISION: dict[BatchState, str] = {
    "resolving": "resolve",
    "landing": "finalize",
    "flipping": "conclude",
    "returning": "conclude",
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
