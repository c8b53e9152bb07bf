"""Beat as the one who tells receivers, for as long as no worker is there to do it: of that, as a rule."""

from __future__ import annotations

import logging
import threading

from config.fleet import Fleet
from mirror.ledger import LedgerError
from tasks import notify
from tasks.runtime import Runtime

logger = logging.getLogger(__name__)


class Herald:
    """Tells in a thread of its own: a receiver that is slow must not cost this beat its place."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def tell(self, rt: Runtime, fleet: Fleet) -> None:
        """Begin to tell what is due, unless the last time is not over yet."""
        if not fleet.notify or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=_tell, args=(rt, fleet), name="herald", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Return when it has told what was due, or after so long."""
        if self._thread is not None:
            self._thread.join(timeout_s)


def _tell(rt: Runtime, fleet: Fleet) -> None:
    try:
        for receiver in notify.due(rt, fleet):
            notify.tell(rt, fleet, receiver)
    except LedgerError as error:
        logger.warning("Redis does not answer, so receivers are told later: %s", error)
