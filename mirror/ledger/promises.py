"""What is promised: on the server's disk, and on that of as many replicas as the fleet asks for."""

from __future__ import annotations

from typing import Any

import redis

from mirror.ledger.keys import Client

CONFIRM_MS = 5000
_CANNOT = ("unknown command", "WAITAOF cannot be used when numlocal is set but appendonly is disabled")
"""How a server begins to say that it cannot promise: before Redis 7.2, or without an append-only file."""


class NotConfirmed(redis.TimeoutError):
    """Redis answers, and what is promised is not where it must be yet; the text says what to do."""


def confirmed(pipe: Client, mark: str, replicas: int) -> list[Any]:
    """Execute ``pipe``; its answers, once what it wrote would survive a crash of the server.

    Asked is WAITAOF (Redis 7.2, Valkey), about what this connection wrote on the server that it is
    connected to; the key ``mark`` is written in any case. A server that keeps no append-only file or knows
    no WAITAOF cannot promise it: then replicas are asked by WAIT whether they have received it, and without
    any nothing is waited for (docs/operations.md says what that costs).

    Raises:
        NotConfirmed: not all is written within CONFIRM_MS.
        redis.RedisError: a command failed.
    """
    pipe.set(mark, 1)
    pipe.execute_command("WAITAOF", 1, replicas, CONFIRM_MS)
    if replicas:
        pipe.execute_command("WAIT", replicas, CONFIRM_MS)
    answers = pipe.execute(raise_on_error=False)
    received = answers.pop() if replicas else 0
    *answers, marked, written = answers
    for answer in (*answers, marked):
        if isinstance(answer, Exception):
            raise answer
    _judge(written, received, replicas)
    return list(answers)


def _judge(written: Any, received: Any, wanted: int) -> None:
    """Of the answers to WAITAOF and WAIT."""
    if isinstance(written, Exception):
        if not str(written).startswith(_CANNOT):
            raise written
        local, replicas = 1, 0 if isinstance(received, Exception) else int(received)
    else:
        local, replicas = (int(number) for number in written)
    if not local:
        raise NotConfirmed(f"Redis has not written its append-only file for {CONFIRM_MS} ms")
    if replicas < wanted:
        raise NotConfirmed(
            f"{replicas} of {wanted} replicas have written what was promised within {CONFIRM_MS} ms; "
            "look after them (each needs its append-only file), or lower SEALIFT_CONFIRM_REPLICAS"
        )
