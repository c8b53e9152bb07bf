"""Points in a worker at which it is killed: patched in from outside, so that the product carries no hooks.

A point is armed by a file in the folder ``CHAOS_FOLDER``; the process that removes the file dies there, so
each file kills once. Files and not keys in Redis, because Redis is itself under fire. ``doubled`` in the
same folder makes every message be sent twice for as long as the file is there.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FOLDER = "CHAOS_FOLDER"
DOUBLED = "doubled"
KILL_POINTS = (
    "after BRPOP, before the task",
    "in mid-blob",
    "between blob and manifest",
    "after the last land, before the body",
    "in the body",
    "between two flips",
    "after the flip, before conclude",
)
TAKEN, MID_BLOB, SEALING, LANDED, BODY, FLIPPING, FLIPPED = KILL_POINTS


class Armoury:
    """The folder in which points are armed and kills are counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("armed", "killed"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def arm(self, point: str) -> None:
        (self._folder / "armed" / f"{KILL_POINTS.index(point)}").touch()

    def disarm(self) -> None:
        for path in (self._folder / "armed").iterdir():
            path.unlink(missing_ok=True)

    def armed(self) -> set[str]:
        return {KILL_POINTS[int(path.name)] for path in (self._folder / "armed").iterdir()}

    def double(self, *, on: bool) -> None:
        """Send every message twice from now on, or no more."""
        path = self._folder / DOUBLED
        path.touch() if on else path.unlink(missing_ok=True)

    def kills(self) -> dict[str, int]:
        """How often each point has killed."""
        counts = dict.fromkeys(KILL_POINTS, 0)
        for path in (self._folder / "killed").iterdir():
            counts[KILL_POINTS[int(path.name.partition("-")[0])]] += 1
        return counts

    def doubled(self) -> int:
        """How many messages were sent twice."""
        return sum(path.stat().st_size for path in self._folder.glob("doubled-*"))

    # -- inside a worker -----------------------------------------------------------------------------

    def here(self, point: str, when: Callable[[], bool] = lambda: True) -> None:
        """Die if the point is armed and ``when`` says so."""
        number = KILL_POINTS.index(point)
        armed = self._folder / "armed" / f"{number}"
        if not armed.exists() or not when():
            return
        try:
            armed.unlink()
        except FileNotFoundError:
            return  # another process took it
        (self._folder / "killed" / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def is_doubling(self) -> bool:
        return (self._folder / DOUBLED).exists()

    def count_doubled(self) -> None:
        with (self._folder / f"doubled-{os.getpid()}").open("ab") as tally:
            tally.write(b".")


def install() -> None:
    """Patch this process; called before the worker starts. AttributeError where a point is gone."""
    armoury = Armoury(Path(os.environ[FOLDER]))
    _patch_messages(armoury)
    _patch_landing(armoury)
    _patch_flipping(armoury)


def _patch_messages(armoury: Armoury) -> None:
    from kombu.transport import redis

    taken, put = redis.Transport._deliver, redis.Channel._put

    def deliver(self: Any, message: Any, queue: str) -> Any:
        if "sealift." in str(message.get("headers", {}).get("task", "")):
            armoury.here(TAKEN)
        return taken(self, message, queue)

    def put_twice(self: Any, queue: str, message: Any, **options: Any) -> Any:
        if armoury.is_doubling() and "sealift." in str(message.get("headers", {}).get("task", "")):
            armoury.count_doubled()
            put(self, queue, message, **options)
        return put(self, queue, message, **options)

    redis.Transport._deliver = deliver
    redis.Channel._put = put_twice


def _patch_landing(armoury: Armoury) -> None:
    from mirror import land, transfer
    from tasks import canvas, steps

    counted = transfer.Carrier._counted

    def dying(self: Any, chunks: Iterator[memoryview], targets: int) -> Iterator[memoryview]:
        for number, chunk in enumerate(counted(self, chunks, targets)):
            if number:
                armoury.here(MID_BLOB)
            yield chunk

    transfer.Carrier._counted = dying  # type: ignore[method-assign]  # that is the point of it
    land.seal = before(land.seal, lambda *_: armoury.here(SEALING))
    steps.land = after(
        steps.land, lambda engine, batch, *_: armoury.here(LANDED, partial(_all, engine, batch, "landed"))
    )
    canvas.flip_everywhere = before(canvas.flip_everywhere, lambda *_: armoury.here(BODY))


def _patch_flipping(armoury: Armoury) -> None:
    from registry.client import RemoteRepository
    from tasks import steps

    put = RemoteRepository.put_manifest

    def put_and_die(self: Any, reference: str, manifest: Any) -> Any:
        result = put(self, reference, manifest)
        if ":" not in reference:
            armoury.here(FLIPPING)
        return result

    RemoteRepository.put_manifest = put_and_die  # type: ignore[method-assign]  # that is the point of it
    steps.flip = after(
        steps.flip, lambda engine, batch, *_: armoury.here(FLIPPED, partial(_all, engine, batch, "flipped"))
    )


def _all(engine: Any, batch: str, step: Literal["landed", "flipped"]) -> bool:
    """Whether this was the last region to take the step, so that only the chord's body is left."""
    regions = engine.ledger.spec(engine.ledger.batches.run_of(batch)).regions
    return bool(engine.ledger.batches.regions_done(batch, step) >= set(regions))


def before(function: Callable[P, T], action: Callable[..., None]) -> Callable[P, T]:
    """``function`` after ``action``, which is given the positional arguments."""

    def patched(*args: P.args, **kwargs: P.kwargs) -> T:
        action(*args)
        return function(*args, **kwargs)

    return patched


def after(function: Callable[P, T], action: Callable[..., None]) -> Callable[P, T]:
    """``function``, then ``action``."""

    def patched(*args: P.args, **kwargs: P.kwargs) -> T:
        result = function(*args, **kwargs)
        action(*args)
        return result

    return patched
