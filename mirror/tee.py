"""One read for several uploads. A target that stalls or breaks drops out; the others go on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from mirror.threads import carrying
from registry.descriptor import Descriptor
from registry.errors import RegistryError, Unreachable
from registry.repository import Repository, Upload

BLOCKS = 4
"""Blocks that may wait for one target; bounds memory and lets a slow target lag a little."""
STALL_S = 30.0
"""A target that takes no block for this long drops out."""


def tee(
    blob: Descriptor,
    read: Callable[[], Iterator[bytes | memoryview]],
    sessions: Sequence[tuple[Repository, Upload]],
    stall_s: float = STALL_S,
) -> dict[str, RegistryError]:
    """Send what ``read`` yields to every session; returns the failures by target name.

    A failure of the reading end fails all of them, with that end's error. Whatever else ``read`` raises
    (a cancelled run) rises here once every upload has ended.
    """
    branches = [_Branch(target, upload, blob) for target, upload in sessions]
    interruption: BaseException | None = None
    try:
        _feed(read, branches, stall_s)
    except RegistryError as error:
        _close(branches, error)
    except BaseException as error:  # noqa: BLE001 - every branch must end before it rises below
        interruption = error
        _close(branches, error)
    else:
        _close(branches, None)
    for branch in branches:
        branch.join(stall_s)
    for crash in (interruption, *(branch.crash for branch in branches)):
        if crash is not None:
            raise crash
    return {branch.name: branch.failure for branch in branches if branch.failure}


def _feed(
    read: Callable[[], Iterator[bytes | memoryview]], branches: Sequence[_Branch], stall_s: float
) -> None:
    for chunk in read():
        # The block is a view of a buffer that the next read overwrites: each branch needs it for longer.
        block = bytes(chunk)
        for branch in branches:
            branch.put(block, stall_s)
        if not any(branch.alive for branch in branches):
            return


def _close(branches: Sequence[_Branch], last: BaseException | None) -> None:
    for branch in branches:
        branch.put(last, STALL_S)


class _Branch:
    """One upload in a thread of its own, fed through a short queue."""

    def __init__(self, target: Repository, upload: Upload, blob: Descriptor) -> None:
        self.name = target.name
        self.failure: RegistryError | None = None
        self.crash: BaseException | None = None
        self._target, self._upload, self._blob = target, upload, blob
        self._blocks: queue.Queue[bytes | BaseException | None] = queue.Queue(BLOCKS)
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=carrying(self._run), name=f"tee to {self.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._dropped.is_set()

    def put(self, block: bytes | BaseException | None, stall_s: float) -> None:
        """Hand over a block; a branch that does not take it in time drops out."""
        waited = 0.0
        while self.alive:
            try:
                self._blocks.put(block, timeout=0.25)
            except queue.Full:
                waited += 0.25
                if waited >= stall_s:
                    self._drop()
            else:
                return

    def join(self, stall_s: float) -> None:
        """Wait for the registry's answer; a dropped branch is left to its socket's time-out."""
        self._thread.join(stall_s if self._dropped.is_set() else None)

    def _drop(self) -> None:
        self.failure = Unreachable(self._target.host, self._blob.digest, "takes no bytes any more")
        self._dropped.set()

    def _run(self) -> None:
        try:
            self._target.finish_upload(self._upload, self._blob, self._chunks())
        except RegistryError as error:
            self.failure = self.failure or error
        except BaseException as error:  # noqa: BLE001 - it rises in the thread that called tee()
            self.crash = error

    def _chunks(self) -> Iterator[bytes]:
        while True:
            block = self._blocks.get()
            if self._dropped.is_set():
                raise Unreachable(self._target.host, self._blob.digest, "takes no bytes any more")
            if block is None:
                return
            if isinstance(block, BaseException):
                raise block
            yield block
