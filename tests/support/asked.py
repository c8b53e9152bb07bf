"""How often Redis is asked: each exchange is one packed send on a connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis.connection import AbstractConnection


@dataclass
class Asked:
    """``number``: exchanges so far."""

    number: int = 0


@contextmanager
def asked_of_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """Count the exchanges of this process with any Redis."""
    asked, send = Asked(), AbstractConnection.send_packed_command

    def counting(self: Any, *args: Any, **more: Any) -> Any:
        asked.number += 1
        return send(self, *args, **more)  # type: ignore[no-untyped-call]  # redis has no types here

    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "send_packed_command", counting)
        yield asked
