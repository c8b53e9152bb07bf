"""What a fleet and its Redis look like while it works, a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench import machine
from bench.scale.rig import Rig
from tasks.canvas import CONTROL_QUEUE, PRIORITY
from tests.support.fleet import PREFIX

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment."""

    at_s: float
    """Since the first sample."""
    listed: int
    """Tags that are known so far."""
    concluded: int
    waiting_batches: int
    """Those that wait for room in a window."""
    in_flight: int
    """Batches."""
    messages: int
    """In all queues, and those that workers have taken and not yet acknowledged; enumerate and sweep too."""
    redis_bytes: int
    worker_bytes: int
    """Memory of the largest process of a worker."""
    is_paused: bool
    ended: bool


class Watch:
    """Samples of some runs, from when it is made."""

    def __init__(self, rig: Rig, runs: Sequence[str]) -> None:
        self._rig, self._runs = rig, runs
        self._began = time.monotonic()
        self._lists = [
            f"{PREFIX}{queue}{f':{step}' if step else ''}"
            for queue in (CONTROL_QUEUE, *rig.regions)
            for step in sorted(set(PRIORITY.values()))
        ]
        self._taken = [f"{PREFIX}unacked:{region}" for region in rig.regions]
        self.samples: list[Sample] = []

    def until(self, enough: Callable[[Sample], bool], timeout_s: float) -> Sample:
        """Sample until a sample is ``enough``; raises TimeoutError with the fleet's last words.

        RuntimeError as soon as a registry or a worker is gone: nothing would ever end.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._rig.check()
            sample = self.take()
            if enough(sample):
                return sample
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout_s:g} s: {sample}\n{self._rig.fleet.logs()}")
            time.sleep(POLL_S)

    def take(self) -> Sample:
        keys = self._rig.fleet.ledger.keys
        pipe: Any = self._rig.redis.pipeline()  # its type knows no chains
        pipe.info("memory")
        for name in self._lists:
            pipe.llen(name)
        for name in self._taken:
            pipe.hlen(name)
        for run in self._runs:
            pipe.hgetall(keys.run(run)).llen(keys.queue(run)).scard(keys.flight(run))
        memory, *answers = pipe.execute()
        messages = len(self._lists) + len(self._taken)
        rows, waiting, flying = (answers[messages + at :: 3] for at in range(3))
        sample = Sample(
            at_s=time.monotonic() - self._began,
            listed=sum(int(row[b"tags"]) for row in rows),
            concluded=sum(int(n) for row in rows for name, n in row.items() if name.startswith(b"n:")),
            waiting_batches=sum(waiting),
            in_flight=sum(flying),
            messages=sum(answers[:messages]),
            redis_bytes=memory["used_memory"],
            worker_bytes=max(machine.largest_bytes(one.pid) for one in self._rig.fleet.workers.values()),
            is_paused=all(b"paused" in row for row in rows),
            ended=all(row[b"state"] != b"open" for row in rows),
        )
        self.samples.append(sample)
        return sample


def busy_s(samples: Sequence[Sample]) -> float:
    """How long it took, without the time for which somebody had paused it."""
    pairs = pairwise(samples)
    busy = (pair for pair in pairs if pair[0].in_flight or not pair[0].is_paused)
    return sum(after.at_s - before.at_s for before, after in busy)
