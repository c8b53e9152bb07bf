"""One blob from a source to one or several targets: mounted where it can be, else copied and verified."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from mirror.ledger.accounts import RegionBatch
from mirror.ledger.batches import Placing
from mirror.ledger.content import Became, Content, Done, Hold, Memory, Noted, Sight
from mirror.ledger.leases import LEASE_S
from mirror.reading import Bytes, Kept, Readable, Reading
from mirror.resume import Delivery, PieceTerms, Session, Sessions, path_of
from mirror.retry import Patience
from mirror.several import Several
from mirror.siblings import Siblings
from mirror.tee import tee
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, NotFound, RegistryError, Transient
from registry.reference import LAYOUT
from registry.repository import Repository, Source, Upload

__all__ = ["LONGEST_BUSY_S", "Busy", "Carrier", "path_of"]


class Busy(Exception):
    """Another worker is bringing this blob to the same registry just now: come back to it later."""

    reason = "another worker has been bringing this blob for long"

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


@dataclass(frozen=True, slots=True)
class Carrier:
    """Brings blobs to targets, once per registry across the whole fleet; safe to ask any number of times."""

    content: Content
    patience: Patience
    memory: Memory
    tee_bytes: int
    moved: Callable[[int], None]
    """Told of every block that was sent, in bytes, times the targets it went to; may raise to stop."""
    terms: PieceTerms = field(default_factory=PieceTerms)
    empty: frozenset[str] = frozenset()
    """Targets, by name, that held nothing when the work began: there is no use in asking them for blobs."""
    again: frozenset[tuple[str, str]] = frozenset()
    """(digest, target) of blobs that are sent although the target says that it has them."""
    siblings: Siblings | None = None
    """Who else may serve a blob; None: it is always read at the source."""
    reading: type[Reading] = Reading
    counted_for: RegionBatch | None = None
    """What blobs are brought for; None: nobody counts them."""

    def place(self, blob: Descriptor, source: Source, targets: Sequence[Repository]) -> dict[str, Placing]:
        """Make every target hold ``blob``; returns what became of it by target name.

        Raises:
            Busy: somebody else brings the blob to one of the registries, or reads it at a source that is
                asked once; nothing was done.
        """
        firsts = list({_place_of(target): target for target in reversed(targets)}.values())
        others = [target for target in targets if target not in firsts]
        with ExitStack() as at_last, self._leased(blob, firsts) as held:
            # Given back last: whoever reads next must find what was brought meanwhile.
            reader = self._reader(blob, source, held, at_last)
            sights = {target.name: hold.sight for target, hold in zip(firsts, held, strict=True)}
            placed = self._place_right(blob, reader, firsts, sights)
            for target, hold in zip(firsts, held, strict=True):
                placing = placed[target.name]
                hold.became, hold.done = _BECAME[placing.how], Done(target.name, placing, blob.size)
            # The same registry again: what was just copied is now mounted from the neighbour.
            brought = [target for target in firsts if placed[target.name].how != "failed"]
            self._saw(blob, brought if others else (), placed)
            for target in others:
                placed |= self._place_right(blob, reader, [target], {})
                self._saw(blob, [target], placed)
        return placed

    def _reader(self, blob: Descriptor, source: Source, held: Sequence[Hold], at_last: ExitStack) -> Readable:
        """Who the blob is read from, should it have to be."""
        if self.siblings is None or all(hold.sight.is_present for hold in held):
            return source
        reader = at_last.enter_context(self.siblings.reading(blob, source))
        if reader is None:
            raise Busy(source.host)
        return reader

    def _place_right(
        self, blob: Descriptor, reader: Readable, targets: Sequence[Repository], sights: dict[str, Sight]
    ) -> dict[str, Placing]:
        """Where one of several sends wrong bytes, the next is asked for the right ones."""
        placed = self._place_leased(blob, reader, targets, sights)
        while wrong := [one for one in targets if placed[one.name].kind == DigestMismatch.__name__]:
            if not (isinstance(reader, Several) and reader.goes_on(blob.digest)):
                break
            placed |= self._place_leased(blob, reader, wrong, {})
        return placed

    def place_patiently(
        self, blob: Descriptor, source: Source, targets: Sequence[Repository]
    ) -> dict[str, Placing]:
        """Like :meth:`place`, waiting for whoever is bringing the blob; Transient if that takes too long."""
        since = time.monotonic()
        while True:
            try:
                return self.place(blob, source, targets)
            except Busy as busy:
                if time.monotonic() - since > LONGEST_BUSY_S:
                    raise Transient(busy.place, blob.digest, busy.reason) from busy
                self.patience.wait(BUSY_WAIT_S)

    @contextlib.contextmanager
    def _leased(self, blob: Descriptor, targets: Sequence[Repository]) -> Iterator[list[Hold]]:
        """One lease per registry."""
        wanted = [(_place_of(target), target.host, path_of(target)) for target in targets]
        held = self.content.hold(blob.digest, wanted)
        if isinstance(held, str):
            raise Busy(held)
        try:
            yield held
        finally:
            self.content.let_go(held, self.memory, self.counted_for)

    def _saw(self, blob: Descriptor, targets: Iterable[Repository], placed: Mapping[str, Placing]) -> None:
        for target in targets:
            placing = placed[target.name]
            what = target.host, path_of(target), blob.digest
            done = Done(target.name, placing, blob.size)
            self.content.saw(*what, self.memory, _BECAME[placing.how], self.counted_for, done)

    def _place_leased(
        self,
        blob: Descriptor,
        source: Readable,
        targets: Sequence[Repository],
        sights: dict[str, Sight],
    ) -> dict[str, Placing]:
        """``sights``: what was known when the leases were taken; each is good for the first look only."""
        placed: dict[str, Placing] = {}
        sessions: list[Session] = []
        for target in targets:
            try:
                how = self.patience.attempt(lambda target=target: self._look(blob, target, sights))  # type: ignore[misc]
            except RegistryError as error:
                placed[target.name] = Placing.failed(error)
                continue
            if isinstance(how, Session):
                sessions.append(how)
            else:
                placed[target.name] = how
        try:
            self._sessions.adopt(blob, [session for session in sessions if not session.is_begun])
            placed |= self._copy_all(blob, source, sessions)
        except BaseException:
            for session in sessions:
                self._cancel(blob, session)
            raise
        return placed

    def _look(self, blob: Descriptor, target: Repository, sights: dict[str, Sight]) -> Placing | Session:
        """Whether it is there or can be mounted; else a session, new or one that was left behind."""
        sight = sights.pop(target.name, None) or self.content.sight(target.host, path_of(target), blob.digest)
        left = self._left_behind(blob, target, sight.session, takes_pieces=sight.takes_pieces)
        found = Placing("present") if sight.is_present else self._found(blob, target, sight)
        if isinstance(found, Placing):
            if left:
                self._cancel(blob, left)
            return found
        if left:
            if found:
                with contextlib.suppress(RegistryError):
                    target.cancel_upload(found)
            return left
        found = found or target.start_upload(blob)
        return Session(target, found, sight.takes_pieces) if found else Placing("mounted")

    def _left_behind(
        self, blob: Descriptor, target: Repository, noted: Noted | None, *, takes_pieces: bool
    ) -> Session | None:
        """A dead worker's session, if it can be gone on with; any other is deleted.

        Its worker is dead, or it gave up: we have the blob's lease.
        """
        if noted is None:
            return None
        session = Session(target, target.noted(noted.note), takes_pieces, noted.offset, is_begun=True)
        if noted.offset and self.terms.pieces_for(blob, target, takes_pieces=takes_pieces):
            return session
        self._cancel(blob, session)
        return None

    def _found(self, blob: Descriptor, target: Repository, sight: Sight) -> Placing | Upload | None:
        """Mounted or present; else the session that a registry opens instead of mounting, or nothing."""
        if (blob.digest, target.name) in self.again:
            return None
        if sight.holder:
            return target.start_upload(blob, mount_from=sight.holder) or Placing("mounted")
        if target.name in self.empty and not sight.was_here and blob.size <= UNASKED_BYTES:
            return None
        try:
            target.blob_size(blob.digest)
        except NotFound:
            return None
        return Placing("present")

    def _copy_all(
        self, blob: Descriptor, source: Readable, sessions: Sequence[Session]
    ) -> dict[str, Placing]:
        """Read once for several targets; whoever drops out gets a copy of its own."""
        placed: dict[str, Placing] = {}
        shared = [session for session in sessions if not session.is_begun]
        if len(shared) > 1 and blob.size >= self.tee_bytes:
            placed = _read_once(self._tee(blob, source, shared))
        elif len(shared) > 1 and blob.size <= KEPT_BYTES:
            placed = _read_once(self._copy_kept(blob, source, shared))
        for session in sessions:
            if session.target.name not in placed:
                placed[session.target.name] = self._copy(blob, source, session)
        return placed

    def _tee(self, blob: Descriptor, source: Readable, sessions: Sequence[Session]) -> dict[str, Placing]:
        """Returns what is settled: copied, or failed in a way that a copy of its own would not mend."""
        pairs = [(session.target, session.upload) for session in sessions if session.upload]
        with self.reading(blob, source, self.patience) as reading:
            failures = tee(blob, lambda: self._counted(reading.take(blob.size), len(pairs)), pairs)
            is_over = reading.failure is not None
        placed: dict[str, Placing] = {}
        for session in sessions:
            session.is_begun = True
            failure = failures.get(session.target.name)
            if failure is None:
                session.upload = None
                placed[session.target.name] = Placing("copied")
                continue
            self._cancel(blob, session)
            if is_over or not isinstance(failure, Transient):
                placed[session.target.name] = Placing.failed(failure)
        return placed

    def _copy_kept(
        self, blob: Descriptor, source: Readable, sessions: Sequence[Session]
    ) -> dict[str, Placing]:
        """A small blob costs less to keep in memory than the threads of a tee would."""
        with self.reading(blob, source, self.patience) as reading:
            try:
                kept = Kept(reading, blob.size)
            except RegistryError as error:
                for session in sessions:
                    self._cancel(blob, session)
                return {session.target.name: Placing.failed(error) for session in sessions}
        return {session.target.name: self._deliver(blob, kept, session) for session in sessions}

    def _copy(self, blob: Descriptor, source: Readable, session: Session) -> Placing:
        with self.reading(blob, source, self.patience) as reading:
            return self._deliver(blob, reading, session)

    def _deliver(self, blob: Descriptor, content: Bytes, session: Session) -> Placing:
        delivery = Delivery(blob, session, content, self._sessions, self.terms, self.moved)
        try:
            delivery.complete(self.patience)
        except RegistryError as error:
            return Placing.failed(error)
        return Placing("copied")

    def _counted(self, chunks: Iterator[memoryview], targets: int) -> Iterator[memoryview]:
        for chunk in chunks:
            yield chunk
            self.moved(len(chunk) * targets)

    def _cancel(self, blob: Descriptor, session: Session) -> None:
        """Delete the session, unless it has ended."""
        upload, session.upload = session.upload, None
        if upload is not None:
            self._sessions.cancel(blob, session.target, upload)

    @property
    def _sessions(self) -> Sessions:
        return Sessions(self.content)


def _read_once(placed: dict[str, Placing]) -> dict[str, Placing]:
    """All but the first that were copied share its reading."""
    copied = [name for name, placing in placed.items() if placing.how == "copied"]
    return placed | {name: replace(placed[name], is_shared=True) for name in copied[1:]}


_BECAME: dict[str, Became] = {
    "failed": "unknown",
    "present": "there",
    "mounted": "there",
    "copied": "uploaded",
}
KEPT_BYTES = 2**20
"""A blob up to this size is read into memory once where several targets miss it; each copy thread has one."""
UNASKED_BYTES = 16 * 2**20
"""A larger blob is asked for even in a repository without tags: a run that was cut short may have left it."""
BUSY_WAIT_S = 0.2
LONGEST_BUSY_S = 4 * LEASE_S
"""How long a slot waits for another worker's copy; a dead one's lease has lapsed by then."""


def _place_of(target: Repository) -> str:
    """What a lease is about: a registry shares blobs between repositories, each layout folder is its own."""
    return target.name if target.host == LAYOUT else target.host
