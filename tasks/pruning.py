"""A run's last step, where tags are gone from its source: their deletion, a task for each region."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery import shared_task

from mirror.follow import follow
from mirror.prune import prune
from tasks import canvas
from tasks.runtime import Runtime, runtime

logger = logging.getLogger(__name__)

AT_WORK = "prune in {}"
"""The place of the lease of whoever deletes for a run in a region."""
MAX_SWEEPS = 20
"""After so many messages that came to nothing the region's deletions are left to the next run."""


@shared_task(name="sealift.prune")
def prune_task(run: str, region: str) -> None:
    """Delete what is gone from the source, where every guard agrees; a copy of the message does nothing."""
    rt = runtime()
    lease = rt.ledger.content.leases.take(AT_WORK.format(region), run)
    if lease is None:
        return
    try:
        step = follow if rt.ledger.spec(run).two_way else prune
        step(rt.engine, run, region)
    finally:
        rt.ledger.content.leases.release(lease)


def send_prunes(rt: Runtime, run: str) -> None:
    """Have every region delete, if that is what the run has left to do."""
    for region in _regions_to_do(rt, run):
        canvas.send_prune(rt.ledger, run, region)


def send_lost_prunes(rt: Runtime, run: str, holds: Callable[[str, str], bool]) -> None:
    """The same where nobody is at it; ``holds``: whether a queue has such a message."""
    for region in _regions_to_do(rt, run):
        if rt.ledger.content.leases.is_held(AT_WORK.format(region), run):
            continue
        if region not in rt.ledger.workers.live_regions() or holds(region, canvas.mark("prune", run, region)):
            continue
        if rt.ledger.gone.swept(run) > MAX_SWEEPS:
            logger.error(
                "run %s: deletions in %s stopped %d times; left to the next", run, region, MAX_SWEEPS
            )
            rt.ledger.gone.end_region(run, region, rt.ledger.spec(run).regions)
        else:
            canvas.send_prune(rt.ledger, run, region)


def _regions_to_do(rt: Runtime, run: str) -> list[str]:
    spec = rt.ledger.spec(run)
    return rt.ledger.gone.regions_to_do(run, spec.regions) if spec.delete != "never" else []
