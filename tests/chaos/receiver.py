"""A receiver of notifications that refuses, hangs up, and takes messages without saying so."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Literal, Self

from tests.support.ports import LOOPBACK, free_fixed_port

EVENTS = "Events: "
"""How the last line of a message begins that says which events it is made of."""
ALL, FEW = "all", "few"
"""Receivers: one that may be told as often as there is something, and one that may not."""
PER_HOUR = {ALL: 1000, FEW: 3}
Answer = Literal["taken", "refused", "answer lost", "not read"]
TROUBLE: tuple[Answer, ...] = ("refused", "answer lost", "not read")
SHARE = 0.4
"""Of the messages that something happens to in bad weather."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that arrived; ``is_answered``: and its sender heard so."""

    receiver: str
    at: float
    title: str
    events: tuple[str, ...]
    is_answered: bool


class Receiver:
    """A web server as ``json://`` addresses are told things; ``share`` of that goes wrong."""

    def __init__(self, seed: int) -> None:
        self.port = free_fixed_port()
        self.share = 0.0
        self.received: list[Received] = []
        self.answers: Counter[Answer] = Counter()
        self._random, self._lock = Random(seed), threading.Lock()
        self._server = ThreadingHTTPServer((LOOPBACK, self.port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="receiver", daemon=True
        ).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def entries(self, folder: Path) -> list[dict[str, object]]:
        """As the fleet file has them: addresses with a path stand in files of their own, in ``folder``."""
        for name in PER_HOUR:
            (folder / name).write_text(f"json://{LOOPBACK}:{self.port}/{name}")
        return [
            {"name": name, "to": f"file:{folder / name}", "per_hour": most} for name, most in PER_HOUR.items()
        ]

    def of(self, receiver: str) -> list[Received]:
        """What one has received, in order."""
        with self._lock:
            return [one for one in self.received if one.receiver == receiver]

    def answer(self) -> Answer:
        """What happens to the next message."""
        with self._lock:
            is_in_trouble = self._random.random() < self.share
            chosen: Answer = self._random.choice(TROUBLE) if is_in_trouble else "taken"
            self.answers[chosen] += 1
        return chosen

    def take(self, receiver: str, body: bytes, *, is_answered: bool) -> None:
        message = json.loads(body)
        one = Received(
            receiver, time.time(), message["title"], tuple(events_of(message["message"])), is_answered
        )
        with self._lock:
            self.received.append(one)


def events_of(text: str) -> Iterable[str]:
    """The ids of the events that a message is made of."""
    last = text.rpartition("\n")[2]
    return last.removeprefix(EVENTS).split() if last.startswith(EVENTS) else ()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = receiver.answer()
            if answer == "not read":
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if answer == "refused":
                self._say(503)
                return
            receiver.take(self.path.strip("/"), body, is_answered=answer == "taken")
            if answer == "taken":
                self._say(200)

        def _say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
            pass

    return Handler
