"""A folder by HTTP, and what was asked of it."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


class Sharing:
    """On a free port of loopback, in a ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self.paths: list[str] = []
        """Every path that was asked for, in that order."""
        sharing = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                sharing.paths.append(self.path)
                super().do_GET()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
