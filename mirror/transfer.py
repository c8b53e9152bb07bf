"""One blob from a source to one or several targets: mounted where it can be, else copied and verified."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mirror.ledger.batches import Placing
from mirror.ledger.content import Content, Memory
from mirror.ledger.leases import Lease
from mirror.retry import Patience
from mirror.tee import tee
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, NotFound, RegistryError, Transient
from registry.reference import LAYOUT
from registry.repository import Repository, Upload

Chunks = Iterable[bytes | memoryview]


class Busy(Exception):
    """Another worker is bringing this blob to the same registry just now: come back to it later."""


def verified(blob: Descriptor, chunks: Chunks, end: str) -> Iterator[bytes | memoryview]:
    """Pass the bytes on, hashing them; the last block only once size and digest are proved.

    A target therefore never receives a whole body that is wrong. ``end`` takes the blame.

    Raises:
        DigestMismatch: too few or too many bytes, or others than promised.
    """
    algorithm, _, _ = blob.digest.partition(":")
    state, count = hashlib.new(algorithm), 0
    for chunk in chunks:
        state.update(chunk)
        count += len(chunk)
        if count > blob.size:
            raise DigestMismatch(end, blob.digest, f"sends more than the {blob.size} bytes it promised")
        if count == blob.size:
            _check(blob, f"{algorithm}:{state.hexdigest()}", end)
        yield chunk
    if count < blob.size:
        raise DigestMismatch(end, blob.digest, f"ends after {count} of {blob.size} bytes")
    if not blob.size:
        _check(blob, f"{algorithm}:{state.hexdigest()}", end)


def _check(blob: Descriptor, digest: str, end: str) -> None:
    if digest != blob.digest:
        raise DigestMismatch(end, blob.digest, f"its bytes hash to {digest}")


@dataclass(frozen=True, slots=True)
class Carrier:
    """Brings blobs to targets, once per registry across the whole fleet; safe to ask any number of times."""

    content: Content
    patience: Patience
    memory: Memory
    tee_bytes: int
    moved: Callable[[int], None]
    """Told of every block that was sent, in bytes, times the targets it went to; may raise to stop."""

    def place(
        self, blob: Descriptor, source: Repository, targets: Sequence[Repository]
    ) -> dict[str, Placing]:
        """Make every target hold ``blob``; returns what became of it by target name.

        Raises:
            Busy: somebody else has the lease of one of the registries; nothing was done.
        """
        firsts = list({_place_of(target): target for target in reversed(targets)}.values())
        with self._leased(blob, firsts):
            placed = self._place_leased(blob, source, firsts)
            # The same registry again: what was just copied is now mounted from the neighbour.
            for target in targets:
                if target.name not in placed:
                    placed |= self._place_leased(blob, source, [target])
        return placed

    def place_patiently(
        self, blob: Descriptor, source: Repository, targets: Sequence[Repository]
    ) -> dict[str, Placing]:
        """Like :meth:`place`, waiting for whoever is bringing the blob."""
        while True:
            try:
                return self.place(blob, source, targets)
            except Busy:
                self.patience.wait(BUSY_WAIT_S)

    @contextlib.contextmanager
    def _leased(self, blob: Descriptor, targets: Sequence[Repository]) -> Iterator[None]:
        """One lease per registry, in a fixed order so that two workers never wait for each other."""
        held: list[Lease] = []
        try:
            for host in sorted({_place_of(target) for target in targets}):
                lease = self.content.leases.take(host, blob.digest)
                if lease is None:
                    raise Busy(blob.digest)
                held.append(lease)
            yield
        finally:
            for lease in held:
                self.content.leases.release(lease)

    def _place_leased(
        self, blob: Descriptor, source: Repository, targets: Sequence[Repository]
    ) -> dict[str, Placing]:
        placed: dict[str, Placing] = {}
        sessions: list[tuple[Repository, Upload]] = []
        for target in targets:
            try:
                how = self.patience.attempt(lambda target=target: self._look(blob, target))  # type: ignore[misc]
            except RegistryError as error:
                placed[target.name] = Placing.failed(error)
                continue
            if isinstance(how, Upload):
                sessions.append((target, how))
            else:
                placed[target.name] = how
        try:
            placed |= self._copy_all(blob, source, sessions)
        except BaseException:
            for target, upload in sessions:
                _cancel(target, upload)
            raise
        for target in targets:
            if placed[target.name].how != "failed":
                self.content.saw(target.host, path_of(target), blob.digest, self.memory)
        return placed

    def _look(self, blob: Descriptor, target: Repository) -> Placing | Upload:
        """Whether it is there or can be mounted; else an open upload session."""
        here, holders = self.content.known(target.host, path_of(target), [blob.digest])
        if here:
            return Placing("present")
        if holder := holders.get(blob.digest):
            upload = target.start_upload(blob, mount_from=holder)
            return upload or Placing("mounted")
        try:
            target.blob_size(blob.digest)
        except NotFound:
            return target.start_upload(blob) or Placing("mounted")
        return Placing("present")

    def _copy_all(
        self,
        blob: Descriptor,
        source: Repository,
        sessions: Sequence[tuple[Repository, Upload]],
    ) -> dict[str, Placing]:
        """Read once for several targets where that pays; whoever drops out gets a copy of its own."""
        left = list(sessions)
        placed: dict[str, Placing] = {}
        if len(sessions) > 1 and blob.size >= self.tee_bytes:
            failures = self._tee(blob, source, sessions)
            placed = {target.name: Placing("copied") for target, _ in sessions if target.name not in failures}
            left = [pair for pair in sessions if isinstance(failures.get(pair[0].name), Transient)]
            for name, error in failures.items():
                placed[name] = Placing.failed(error)
            left = [(target, target.start_upload(blob) or upload) for target, upload in left]
        for target, upload in left:
            try:
                self._copy(blob, source, target, upload)
                placed[target.name] = Placing("copied")
            except RegistryError as error:
                placed[target.name] = Placing.failed(error)
        return placed

    def _tee(
        self,
        blob: Descriptor,
        source: Repository,
        sessions: Sequence[tuple[Repository, Upload]],
    ) -> dict[str, RegistryError]:
        def read() -> Iterator[bytes | memoryview]:
            with source.open_blob(blob) as chunks:
                yield from self._counted(verified(blob, chunks, source.host), len(sessions))

        failures = tee(blob, read, sessions)
        for target, upload in sessions:
            if target.name in failures:
                _cancel(target, upload)
        return failures

    def _copy(
        self,
        blob: Descriptor,
        source: Repository,
        target: Repository,
        upload: Upload,
    ) -> None:
        sessions = [upload]

        def once() -> None:
            session = sessions.pop() if sessions else target.start_upload(blob)
            if session is None:
                return
            try:
                with source.open_blob(blob) as chunks:
                    checked = self._counted(verified(blob, chunks, source.host), 1)
                    target.finish_upload(session, blob, checked)
            except BaseException:
                _cancel(target, session)
                raise

        self.patience.attempt(once)

    def _counted(self, chunks: Chunks, targets: int) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            yield chunk
            self.moved(len(chunk) * targets)


BUSY_WAIT_S = 0.2


def path_of(repository: Repository) -> str:
    """The repository's path on its registry: what a mount's ``from`` names."""
    prefix = LAYOUT if repository.host == LAYOUT else f"{repository.host}/"
    return repository.name.removeprefix(prefix)


def _place_of(target: Repository) -> str:
    """What a lease is about: a registry shares blobs between repositories, each layout folder is its own."""
    return target.name if target.host == LAYOUT else target.host


def _cancel(target: Repository, upload: Upload) -> None:
    """Do not leave a dead session behind; that it cannot be deleted changes nothing."""
    with contextlib.suppress(RegistryError):
        target.cancel_upload(upload)
