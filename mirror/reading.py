"""The reading end of a copy: hashed as it comes, and asked again where it broke."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol, Self

from mirror.retry import Patience
from mirror.several import Several
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, RegistryError


class Bytes(Protocol):
    """A blob's bytes as an upload takes them: from one border to the next, and from anywhere again."""

    @property
    def failure(self) -> RegistryError | None: ...

    def take(self, until: int) -> Iterator[memoryview]: ...

    def seek(self, position: int, passed: Callable[[int], None], /) -> None: ...


class Readable(Protocol):
    """What a blob is read from: a Repository, as far as reading goes."""

    @property
    def name(self) -> str: ...

    @property
    def host(self) -> str: ...

    def open_blob(
        self, blob: Descriptor, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes | memoryview]]: ...


class Kept:
    """The bytes of a small blob, read and proved, for one target after the other."""

    failure: RegistryError | None = None

    def __init__(self, reading: Reading, size: int) -> None:
        """Read all of it; RegistryError of the source."""
        content = bytearray()
        for block in reading.take(size):
            content += block
        self._content = memoryview(content)
        self._position = 0

    def take(self, until: int) -> Iterator[memoryview]:
        """As Reading's; one block."""
        block = self._content[self._position : until]
        self._position = until
        if len(block):
            yield block

    def seek(self, position: int, _: Callable[[int], None]) -> None:
        """As Reading's; nothing is read again."""
        self._position = position


class Reading:
    """One blob at its source, from the first byte to the last, whoever takes the bytes.

    A source that breaks off is asked for the rest (by Range) with the hash as it stood, so that who takes
    the bytes notices nothing but a pause. A hash cannot be handed to another process: going on with what
    another worker has sent means reading its bytes once more, hashing them and sending none.
    """

    failure: RegistryError | None = None
    """What ended the reading for good: whoever sees it come out of an upload knows which end broke."""

    def __init__(self, blob: Descriptor, source: Readable, patience: Patience) -> None:
        self._blob, self._source, self._patience = blob, source, patience
        self._algorithm = blob.digest.partition(":")[0]
        self._position = 0
        self._hash = hashlib.new(self._algorithm)
        self._border = (0, self._hash.copy())
        self._rest = memoryview(b"")
        self._blocks: Iterator[bytes | memoryview] | None = None
        self._connection = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()

    def take(self, until: int) -> Iterator[memoryview]:
        """The bytes from here up to ``until``; the blob's last ones only once size and digest are proved.

        A target therefore never receives a whole body that is wrong. A block is overwritten by the next.

        Raises:
            DigestMismatch: too few or too many bytes, or others than promised; the source takes the blame.
        """
        self._border = (self._position, self._hash.copy())
        if not self._blob.size:
            self._prove()
        while self._position < until:
            block = self._rest or self._next()
            block, self._rest = block[: until - self._position], block[until - self._position :]
            self._hash.update(block)
            self._position += len(block)
            if self._position == self._blob.size:
                self._prove()
            yield block

    def seek(self, position: int, passed: Callable[[int], None]) -> None:
        """Have :meth:`take` go on at ``position``; ``passed`` is told 0 now and then, and may raise to stop.

        Backwards it reads again from the last border, the place where a ``take`` began, or the start.
        """
        if position < self._position:
            self._hang_up()
            at, state = self._border
            if at > position:
                at, state = 0, hashlib.new(self._algorithm)
            self._position, self._hash = at, state.copy()
        for _ in self.take(position):
            passed(0)

    def _next(self) -> memoryview:
        """The next block of the source, however often it has to be asked for it."""
        try:
            block = memoryview(self._patience.attempt(self._ask))
            if self._position + len(block) > self._blob.size:
                raise self._mismatch(f"sends more than the {self._blob.size} bytes it promised")
        except RegistryError as error:
            self.failure = error
            raise
        return block

    def _ask(self) -> bytes | memoryview:
        try:
            if self._blocks is None:
                connection = self._source.open_blob(self._blob, self._position)
                self._blocks = self._connection.enter_context(connection)
            for block in self._blocks:
                if len(block):
                    return block
        except BaseException:
            self._hang_up()
            raise
        raise self._mismatch(f"ends after {self._position} of {self._blob.size} bytes")

    def _prove(self) -> None:
        found = f"{self._algorithm}:{self._hash.hexdigest()}"
        if found != self._blob.digest:
            self.failure = self._mismatch(f"its bytes hash to {found}")
            raise self.failure

    def _mismatch(self, reason: str) -> DigestMismatch:
        """Whoever sent the bytes takes the blame."""
        source, digest = self._source, self._blob.digest
        sender = source.sender(digest) if isinstance(source, Several) else source
        repository = sender.name.removeprefix(sender.host).removeprefix("/")
        error = DigestMismatch(sender.host, f"{repository}@{digest}", reason)
        if isinstance(source, Several):
            source.disown(digest, error)
        return error

    def _hang_up(self) -> None:
        self._blocks, self._rest = None, memoryview(b"")
        self._connection.close()
