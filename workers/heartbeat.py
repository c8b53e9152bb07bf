"""A worker's heartbeat: a file that stays young for as long as the worker asks for messages.

It beats where deafness shows. A thread of its own would go on beating in a worker whose consumer no longer
hears anything, and so would a timer of Celery's: the loop turns, and nobody asks Redis for the next message.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from celery import bootsteps

TICK_S = 2.0
FRESH_S = 10.0
"""A heartbeat younger than this is that of a consumer at work."""

Word = Literal["ready", "waiting", "leaving"]
"""Takes messages; cannot, because Redis is away; takes no more, and finishes what it has."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """One process's heartbeat. Without a path only the process itself knows of it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._at_work = float("-inf")
        self._complained = False

    @property
    def is_fresh(self) -> bool:
        """Whether the consumer was at work a moment ago."""
        return time.monotonic() - self._at_work < FRESH_S

    def beat(self) -> None:
        """The consumer asked for messages."""
        self._at_work = time.monotonic()
        self.say("ready")

    def say(self, word: Word) -> None:
        """Make the file young; a full disk must not stop a worker, so that this fails is only logged."""
        if self._path is None:
            return
        draft = self._path.with_name(f"{self._path.name}.new")
        with self._lock:
            try:
                draft.write_text(f"{word}\n")
                draft.replace(self._path)
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    logger.warning("the heartbeat cannot be written: %s", error)

    def clear(self) -> None:
        """Take away what an earlier worker left: it says nothing about this one."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def consumer_step(heartbeat: Heartbeat, longest_s: float) -> type[bootsteps.StartStopStep]:
    """The part of a worker's consumer, made again with every connection, that makes ``heartbeat`` beat.

    A consumer whose pool is full may take no message, and is well; one that might not for ``longest_s``, the
    longest that a task may take, never will.
    """

    class Pulse(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, parent: Any, **options: Any) -> None:
            super().__init__(parent, **options)
            self._asked, self._willing = False, time.monotonic()
            self._timer: Any = None

        def start(self, parent: Any) -> None:
            # Asked in every turn of the loop, before Redis is, of every channel that has queues.
            qos = parent.task_consumer.channel.qos
            qos.can_consume = self._noticing(qos.can_consume)
            self._timer = parent.timer.call_repeatedly(TICK_S, self._tick)

        def stop(self, parent: Any) -> None:  # noqa: ARG002 -- Celery's signature
            if self._timer is not None:
                self._timer.cancel()

        def _noticing(self, can_consume: Callable[[], bool]) -> Callable[[], bool]:
            def noticed() -> bool:
                self._asked = True
                may = can_consume()
                if may:
                    self._willing = time.monotonic()
                return may

            return noticed

        def _tick(self) -> None:
            if self._asked and time.monotonic() - self._willing < longest_s:
                heartbeat.beat()
            self._asked = False

    return Pulse
