"""The process: uvicorn with our limits, which ends when it is told to and not before it has answered."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from workers.serve.seldom import Seldom

MOST_CONNECTIONS = 512
"""Idle ones included; for a further one the connection goes that has waited longest for a request."""
HEAD_S = 10.0
"""How long the head of a request may take: a connection's first from when that is open, others from when they
begin. And how long the rest of a request that is answered already."""
GRACE_S = 20
"""How long a stopping process may finish what it has begun to answer."""
IDLE_S = 75
"""How long a connection stays open for the next request: an Ingress keeps them for a minute."""

SWITCH_S = 0.0005
"""How long a thread that works keeps the one waiting that reads requests: by default ten times as long."""


class Connection(H11Protocol):
    """One that does not wait for ever: uvicorn does, for all but a request that has not begun."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._since = 0.0

    @property
    def waits(self) -> bool:
        """Whether there is no request to be answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first
        return cycle is None or cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Where something is answered already, to that there is no second answer."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()
        if not self.waits:
            self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(HEAD_S, self._watch)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_unread()

    def timeout_keep_alive_handler(self) -> None:
        """Also where an answer has not been fetched: to close would wait for that."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
        self._end_unread()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        own = (one for one in self.connections if isinstance(one, Connection))
        waiting = [one for one in own if one.waits and not one.transport.is_closing()]
        min(waiting, key=lambda one: one._since).transport.abort()  # noqa: SLF001 - its own kind

    def _watch(self) -> None:
        """While something is owed; that it comes byte by byte gains no time.

        Who asks on without reading has an answer wait for that, among those that are under way.
        """
        if not self.waits:
            self._end_watch()
            if self.flow.write_paused:
                self.transport.abort()
        elif self._limit is None and self.timeout_keep_alive_task is None:
            self._limit = self.loop.call_later(HEAD_S, self.transport.abort)

    def _end_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end_watch(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _Anybodys(logging.Filter):
    """uvicorn warns, in the same words, of every request that is none: anybody can send those."""

    def __init__(self) -> None:
        super().__init__()
        self._seldom = Seldom(logging.getLogger(__name__))

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        self._seldom.say(str(record.msg), record.getMessage())
        return False


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; 0: a free port. Raises OSError.

    With its protocol named: else asyncio leaves Nagle's algorithm on, and answers take 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT; then finish what was begun, and raise the signal anew.

    No address is believed that a header names, nothing says what software this is, and addresses, which may
    hold a secret, are not logged.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=False,
        log_config=None,
        log_level="warning",
        lifespan="on",
        loop="asyncio",
        http=Connection,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=IDLE_S,
        ws="none",
    )
    logging.getLogger("uvicorn.error").addFilter(_Anybodys())
    sys.setswitchinterval(SWITCH_S)
    uvicorn.Server(config).run(sockets=[listener])
