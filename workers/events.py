"""Task events in bundles: told a moment later, those of many tasks are one message to Redis.

A worker's main process takes one message after the other and waits for Redis at each event; far from Redis,
or with many small tasks, the events cost it as much as the tasks do.
"""

from __future__ import annotations

import contextlib
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher
from kombu.asynchronous import get_event_loop

BUNDLE_S = 0.2
"""How much later Flower hears of a task."""


class Dispatcher(EventDispatcher):
    """Sends what is buffered after BUNDLE_S, or when the buffer is full, instead of in every turn."""

    producer: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        """As Celery's; where it would flush in every turn of an event loop, it does so later."""
        self._is_due = False
        if options.get("on_send_buffered"):
            options["on_send_buffered"] = self._flush_soon
        super().__init__(*args, **options)

    def _flush_soon(self) -> None:
        loop = get_event_loop()
        if loop is not None and not self._is_due:
            self._is_due = True
            loop.call_later(BUNDLE_S, self._flush_due)

    def _flush_due(self) -> None:
        self._is_due = False
        if self.enabled:
            self._try_flush()

    def close(self) -> None:
        """Send the last of it."""
        if self.producer is not None:
            self._try_flush()
        super().close()

    def _try_flush(self) -> None:
        """Where the connection is gone, the worker finds that out elsewhere; what is buffered stays."""
        with contextlib.suppress(Exception):
            self.flush()


class Events(CeleryEvents):
    """Celery's, with our dispatcher."""

    dispatcher_cls = "workers.events:Dispatcher"
