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
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal

Function = Callable[..., Any]

FOLDER = "CHAOS_FOLDER"
DOUBLED = "doubled"
KILL_POINTS: tuple[str, ...] = (
    "after BRPOP, before the task",
    "in mid-blob",
    "between blob and manifest",
    "after the last land, before the body",
    "in the body",
    "between two flips",
    "after the flip, before conclude",
    "before a message is sent",
    "after a message, before that is known",
)
TAKEN, MID_BLOB, SEALING, LANDED, BODY, FLIPPING, FLIPPED, TELLING, TOLD = KILL_POINTS


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
    _patch_telling(armoury)


def _patch_messages(armoury: Armoury) -> None:
    from kombu.transport import redis

    def is_ours(message: Any) -> bool:
        return "sealift." in str(message.get("headers", {}).get("task", ""))

    def deliver(taken: Function, self: Any, message: Any, queue: str) -> Any:
        if is_ours(message):
            armoury.here(TAKEN)
        return taken(self, message, queue)

    def put_twice(put: Function, self: Any, queue: str, message: Any, **options: Any) -> Any:
        if armoury.is_doubling() and is_ours(message):
            armoury.count_doubled()
            put(self, queue, message, **options)
        return put(self, queue, message, **options)

    replace(redis.Transport, "_deliver", deliver)
    replace(redis.Channel, "_put", put_twice)


def _patch_landing(armoury: Armoury) -> None:
    from mirror import land, transfer
    from tasks import canvas, steps

    def count(counted: Function, self: Any, chunks: Any, targets: int) -> Iterator[Any]:
        for number, chunk in enumerate(counted(self, chunks, targets)):
            if number:
                armoury.here(MID_BLOB)
            yield chunk

    def seal(sealed: Function, *args: Any, **options: Any) -> Any:
        armoury.here(SEALING)
        return sealed(*args, **options)

    def land_and_die(landed: Function, engine: Any, batch: str, *args: Any, **options: Any) -> Any:
        result = landed(engine, batch, *args, **options)
        armoury.here(LANDED, partial(_all, engine, batch, "landed"))
        return result

    def flip_everywhere(flip: Function, *args: Any) -> Any:
        armoury.here(BODY)
        return flip(*args)

    replace(transfer.Carrier, "_counted", count)
    replace(land, "seal", seal)
    replace(steps, "land", land_and_die)
    replace(canvas, "flip_everywhere", flip_everywhere)


def _patch_flipping(armoury: Armoury) -> None:
    from registry.client import RemoteRepository
    from tasks import steps

    def put_manifest(put: Function, self: Any, reference: str, manifest: Any) -> Any:
        result = put(self, reference, manifest)
        if ":" not in reference:
            armoury.here(FLIPPING)
        return result

    def flip_and_die(flip: Function, engine: Any, batch: str, *args: Any, **options: Any) -> Any:
        result = flip(engine, batch, *args, **options)
        armoury.here(FLIPPED, partial(_all, engine, batch, "flipped"))
        return result

    replace(RemoteRepository, "put_manifest", put_manifest)
    replace(steps, "flip", flip_and_die)


def _patch_telling(armoury: Armoury) -> None:
    from tasks import notify

    def send_and_die(send: Function, *args: Any) -> Any:
        armoury.here(TELLING)
        result = send(*args)
        armoury.here(TOLD)
        return result

    replace(notify, "send", send_and_die)


def _all(engine: Any, batch: str, step: Literal["landed", "flipped"]) -> bool:
    """Whether this was the last region to take the step, so that only the chord's body is left."""
    regions = engine.ledger.spec(engine.ledger.batches.run_of(batch)).regions
    return bool(engine.ledger.batches.regions_done(batch, step) >= set(regions))


def replace(owner: Any, name: str, function: Function) -> None:
    """Put ``function`` in the place of the owner's; it is given that one first."""
    replaced = getattr(owner, name)

    @wraps(replaced)
    def patched(*args: Any, **options: Any) -> Any:
        return function(replaced, *args, **options)

    setattr(owner, name, patched)
