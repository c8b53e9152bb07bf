"""Tasks that kill the process they run in, every time: a layer that takes all memory, a crash in a library.

Celery's main process sees each such end and sends the task once more (``task_retry_on_worker_lost``), up to
ATTEMPTS times. Then the region's landing of that batch is ended by name, instead of killing for ever.
"""

from __future__ import annotations

import logging

from mirror.land import give_up
from tasks import canvas
from tasks.about import fields_of
from tasks.runtime import Runtime

ATTEMPTS = 3
LANDING = frozenset({"sealift.mirror", "sealift.land", "sealift.haul"})

logger = logging.getLogger(__name__)


class ProcessLost(Exception):
    """The process that ran a task was killed, again and again; the text goes into the tags' reasons."""


def end_lost(rt: Runtime, task: str, args: list[str]) -> None:
    """Give up what ``task`` was to land. Other tasks are the sweeper's, which has a bound of its own."""
    if task not in LANDING:
        return
    batch, region, *_ = args
    if rt.ledger.batches.state(batch) != "landing":
        return  # a batch of one region takes all its steps in one task: this was another one
    about = {"task": task, **fields_of(task, args)}
    logger.error("%s lost its process %d times", task, ATTEMPTS + 1, extra=about)
    reason = f"the worker process was killed {ATTEMPTS + 1} times while landing it (out of memory?)"
    give_up(rt.engine, batch, region, ProcessLost(reason))
    spec = rt.ledger.spec(rt.ledger.batches.run_of(batch))
    if rt.ledger.batches.regions_done(batch, "landed") >= set(spec.regions):
        canvas.send_decision(rt.ledger, batch, "finalize")
