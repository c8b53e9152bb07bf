"""The process: uvicorn with our limits, which ends when it is told to and not before it has answered."""

from __future__ import annotations

import socket
import sys

import uvicorn
from starlette.types import ASGIApp

MOST_AT_ONCE = 512
"""Connections, idle ones included; on further ones requests get a 503 at once, instead of memory."""
GRACE_S = 20
"""How long a stopping process may finish what it has begun to answer."""
IDLE_S = 75
"""How long a connection stays open for the next request: an Ingress keeps them for a minute."""

SWITCH_S = 0.0005
"""How long a thread that works keeps the one waiting that reads requests: by default ten times as long."""


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
        limit_concurrency=MOST_AT_ONCE,
        log_config=None,
        log_level="warning",
        lifespan="on",
        loop="asyncio",
        http="h11",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=IDLE_S,
        ws="none",
    )
    sys.setswitchinterval(SWITCH_S)
    uvicorn.Server(config).run(sockets=[listener])
