"""A web server that is told things, as Apprise's ``json://`` tells them: it can be away, refuse or hang."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.ports import free_port


@dataclass
class Listener:
    """Keeps its port while it is away, so that it can come back."""

    port: int = field(default_factory=free_port)
    status: int = 200
    location: str = ""
    """Where a redirect leads."""
    hangs: threading.Event | None = None
    """Set: nothing is answered before the event is."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All that were received, answered or not."""
    arrived: threading.Condition = field(default_factory=threading.Condition)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/"

    @property
    def titles(self) -> list[str]:
        return [str(one["title"]) for one in self.messages]

    def start(self) -> Self:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with listener.arrived:
                    listener.messages.append(json.loads(body))
                    listener.arrived.notify_all()
                if listener.hangs is not None:
                    listener.hangs.wait(60)
                self.send_response(listener.status)
                if listener.location:
                    self.send_header("Location", listener.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """It is away: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def await_messages(self, number: int, timeout_s: float = 30.0) -> None:
        """Return once so many have arrived."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.messages) >= number, timeout_s), self.messages

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.hangs is not None:
            self.hangs.set()
        self.stop()
