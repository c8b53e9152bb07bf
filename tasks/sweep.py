"""The sweeper: finds what stopped moving, from the ledger alone, and sends it on.

It needs no chord state, so it heals whatever was lost: a message, a chord, its body, a worker.
"""

from __future__ import annotations

from celery import shared_task

from mirror import decide
from mirror.ledger.batches import BatchState
from tasks import canvas
from tasks.runtime import Runtime, runtime
from tasks.steps import open_window

MAX_SWEEPS = 20
"""A batch that was sent on so often without coming to an end is ended, with that reason."""


@shared_task(name="sealift.sweep")
def sweep_task(older_than_s: float | None = None) -> None:
    """Send on every run and batch that has not moved for ``stall_s``; one sweeper at a time does.

    ``older_than_s`` replaces ``stall_s`` where nobody can be at work: 0 when a fleet is started alone.
    """
    rt = runtime()
    if older_than_s is None and not rt.ledger.sweeping(rt.settings.sweep_interval_s / 2):
        return
    for member in rt.ledger.stalled(rt.settings.stall_s if older_than_s is None else older_than_s):
        rt.ledger.batches.touch(member)
        if "." in member:
            _send_on(rt, member)
        else:
            _send_on_run(rt, member)


def _send_on_run(rt: Runtime, run: str) -> None:
    _, listed = rt.ledger.cursor(run)
    if listed:
        open_window(rt, run)
    else:
        canvas.send_enumerate(rt.ledger, run)


def _send_on(rt: Runtime, batch: str) -> None:
    state = rt.ledger.batches.state(batch)
    if rt.ledger.batches.swept(batch) > MAX_SWEEPS:
        reason = f"stopped moving {MAX_SWEEPS} times while {state}; see the workers' logs"
        if decide.give_up(rt.engine, batch, reason) == "concluded":
            open_window(rt, rt.ledger.batches.run_of(batch))
        return
    if state == "resolving":
        canvas.send_resolve(rt.ledger, batch)
        return
    for region in _regions_to_do(rt, batch, state):
        if state == "landing":
            canvas.send_land(rt.ledger, batch, region)
        elif state == "flipping":
            canvas.send_flip(rt.ledger, batch, region)
        elif state == "returning":
            canvas.send_unflip(rt.ledger, batch, region)


def _regions_to_do(rt: Runtime, batch: str, state: BatchState) -> list[str]:
    """Regions that have not taken the step; where all have, the decision about it is sent instead."""
    regions = rt.ledger.spec(rt.ledger.batches.run_of(batch)).regions
    if state == "landing":
        done = rt.ledger.batches.regions_done(batch, "landed")
        if done >= set(regions):
            canvas.send_finalize(rt.ledger, batch)
    else:
        done = rt.ledger.batches.regions_done(batch, "flipped" if state == "flipping" else "returned")
        if done >= set(regions):
            canvas.send_conclude(rt.ledger, batch)
    return [region for region in regions if region not in done]
