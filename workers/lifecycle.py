"""What a worker does besides its tasks: logs without secrets, says that it lives, leaves in good order."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import signals

from mirror.ledger import LedgerError
from registry.redact import RedactingFilter
from tasks.canvas import CONTROL_QUEUE
from tasks.runtime import runtime

REGION_VARIABLE = "SEALIFT_REGION"
"""Set by ``sealift worker --region``; a worker that plain Celery started is known by its queues."""
BEAT_S = 10.0

logger = logging.getLogger(__name__)


def connect() -> None:
    """Hook into Celery's signals; called once, by the app."""
    signals.setup_logging.connect(_set_up_logging, weak=False)
    signals.worker_ready.connect(_begin, weak=False)
    signals.worker_shutting_down.connect(_end, weak=False)


def _set_up_logging(loglevel: int | str = "INFO", **_: Any) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"))
    handler.addFilter(RedactingFilter())
    logging.basicConfig(level=loglevel, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "celery.worker.strategy", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


_stopping = threading.Event()


def _begin(sender: Any, **_: Any) -> None:
    """Keep the worker's regions in the ledger for as long as it lives."""
    name = sender.hostname
    queues = [queue.name for queue in sender.app.amqp.queues.consume_from.values()]
    regions = [queue for queue in queues if queue != CONTROL_QUEUE] or [CONTROL_QUEUE]
    threading.Thread(target=_beat, args=(regions, name), name="heartbeat", daemon=True).start()


def _beat(regions: list[str], worker: str) -> None:
    """The consumer's own process says it, so that a hung pool is still seen as a living worker's."""
    while True:
        try:
            for region in regions:
                runtime().ledger.beat(region, worker)
        except LedgerError:
            logger.warning("Redis does not answer; the heartbeat tries again in %s s", BEAT_S)
        if _stopping.wait(BEAT_S):
            break
    for region in regions:
        runtime().ledger.leave(region, worker)


def _end(**_: Any) -> None:
    _stopping.set()
