"""How a worker leaves: it finishes what it can in time, hands back the rest at once, and exits with 0.

Celery's own soft shutdown sleeps its whole time through however soon the work is done, and then asks the
processes of its pool to end in a way that waits for every thread: one stalled transfer keeps the worker for
minutes. So its signal handlers are replaced.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from celery import signals
from celery.worker import state

from tasks.about import fields_of
from workers.heartbeat import TICK_S, Heartbeat

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
LET_GO = signal.SIGUSR2
"""Tells a process of the pool to give up its task; billiard uses the others."""
LET_GO_S = 2.0
"""How long such a process may take to release its leases."""
GOODBYE_S = 15.0
"""How long Redis may take to accept what is handed back."""

logger = logging.getLogger(__name__)


class Departure:
    """The way out of a worker's main process. A second signal cuts the time short."""

    def __init__(self, worker: Any, soft_s: float, heartbeat: Heartbeat) -> None:
        self._worker, self._soft_s, self._heartbeat = worker, soft_s, heartbeat
        self._bell = Bell(self._see_out, "departure")

    def install(self) -> None:
        """Take over the signals; called by the main thread, after Celery has set up its own handlers."""
        self._bell.listen()
        for signum in SIGNALS:
            signal.signal(signum, self._begin)

    def _begin(self, signum: int, _: object) -> None:
        if state.should_stop is None:
            state.should_stop = os.EX_OK  # type: ignore[assignment]  # the stubs know its first value only
            signals.worker_shutting_down.send(
                sender=self._worker.hostname,
                sig=signal.Signals(signum).name,
                how="Soft",
                exitcode=os.EX_OK,
            )
        self._bell.ring()

    def _see_out(self) -> None:
        """Ends with the process, at the latest when Redis takes nothing back."""
        if _unfinished():
            logger.info("leaving; work in hand has %g s, then it is handed back", self._soft_s)
        self._wait_while(lambda: True, self._soft_s)
        if unfinished := _unfinished():
            self._let_go(unfinished)
        self._wait_while(lambda: True, GOODBYE_S)
        logger.warning("Redis does not take back what is in hand; the sweeper finds it")
        os._exit(os.EX_SOFTWARE)

    def _let_go(self, requests: list[Any]) -> None:
        """Have the pool lose its tasks: each then goes back into its queue (task_reject_on_worker_lost)."""
        for request in requests:
            about = fields_of(request.name, request.args)
            logger.warning("handing back %s", request.name, extra={"task_id": request.id, **about})
        for task in self._worker.app.tasks.values():
            task.retry_on_worker_lost = False  # leaving is not the task's fault: it is not counted against it
        logging.getLogger("celery.worker.request").setLevel(logging.CRITICAL)  # a traceback for each of them
        _signal(requests, LET_GO)
        self._wait_while(lambda: bool(_unfinished()), LET_GO_S)
        _signal(_unfinished(), signal.SIGKILL)

    def _wait_while(self, condition: Callable[[], bool], at_most_s: float) -> None:
        deadline = monotonic() + at_most_s
        while condition() and (left := deadline - monotonic()) > 0:
            self._heartbeat.say("leaving")
            if self._bell.rings(min(left, TICK_S / 10)):
                return


class Bell:
    """Runs ``action`` once in a thread of its own when a signal handler rings.

    A handler may interrupt anything, so it may take no lock and start no thread: it writes a byte.
    """

    def __init__(self, action: Callable[[], None], name: str) -> None:
        self._action, self._name = action, name
        self._heard, self._rope = os.pipe()
        os.set_blocking(self._rope, False)

    def listen(self) -> None:
        threading.Thread(target=self._await, name=self._name, daemon=True).start()

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            os.write(self._rope, b"!")

    def rings(self, within_s: float) -> bool:
        """Whether it rings again; asked by the action."""
        if not select.select([self._heard], [], [], within_s)[0]:
            return False
        os.read(self._heard, 1)
        return True

    def _await(self) -> None:
        os.read(self._heard, 1)
        self._action()


def obey(release: Callable[[], None]) -> None:
    """Let this process of a pool end at LET_GO, its task unfinished, after ``release``."""

    def end() -> None:
        try:
            release()
        finally:
            os._exit(os.EX_OK)  # threads may hang in a transfer: nothing waits for them

    bell = Bell(end, "let-go")
    bell.listen()
    signal.signal(LET_GO, lambda *_: bell.ring())


def _unfinished() -> list[Any]:
    """The requests that a process of the pool is at, and whose message would be lost with it."""
    return [request for request in tuple(state.active_requests) if not request.acknowledged]


def _signal(requests: Iterable[Any], signum: signal.Signals) -> None:
    for request in requests:
        if request.worker_pid:
            with suppress(ProcessLookupError):
                os.kill(request.worker_pid, signum)
