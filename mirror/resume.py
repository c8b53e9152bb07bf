"""The writing end of a copy: large blobs go on where they were, if the registry lets them; others start over.

An upload session is noted in the ledger when it opens and after each piece. Whoever brings the blob next,
here or after a kill, goes on with it or deletes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mirror.ledger import LedgerError
from mirror.ledger.content import Content, Noted
from mirror.reading import Bytes
from mirror.retry import Patience
from registry.descriptor import Descriptor
from registry.errors import (
    Denied,
    DigestMismatch,
    NotFound,
    Permanent,
    Refused,
    RegistryError,
    Throttled,
    Transient,
)
from registry.reference import LAYOUT
from registry.repository import Pieces, Repository, Upload

MAX_BARREN = 2
"""Attempts without one piece landed before the blob is sent whole: some proxies just break such uploads."""


@dataclass(frozen=True, slots=True)
class PieceTerms:
    """From which size on a blob is sent in pieces, and how large they are; bytes."""

    from_bytes: int = 256 * 2**20
    piece_bytes: int = 64 * 2**20

    def pieces_for(self, blob: Descriptor, target: Repository, *, takes_pieces: bool) -> Pieces | None:
        """The way to send ``blob`` in pieces, None where it is sent whole."""
        return target.pieces if takes_pieces and blob.size >= self.from_bytes else None


@dataclass(slots=True)
class Session:
    """An upload of one blob to one target; ``upload`` is None once nobody has to close it."""

    target: Repository
    upload: Upload | None
    takes_pieces: bool
    offset: int = 0
    """Bytes that the registry confirmed."""
    is_begun: bool = False
    """Bytes were sent, by this worker or another: the session is good for going on and for nothing else."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Opens and closes upload sessions so that none is forgotten when a worker dies."""

    content: Content

    def open(self, blob: Descriptor, target: Repository) -> Upload | None:
        """A new session, noted; None where there is nothing to send."""
        upload = target.start_upload(blob)
        if upload is not None:
            try:
                self.note(blob, target, upload)
            except LedgerError:  # there would be nobody to close it
                self.cancel(blob, target, upload)
                raise
        return upload

    def adopt(self, blob: Descriptor, opened: Sequence[Session]) -> None:
        """Note sessions that were just opened; after a LedgerError nobody would find them: close them."""
        notes = [(one.target, one.target.note_of(one.upload)) for one in opened if one.upload]
        self.content.note_sessions(
            (target.host, path_of(target), blob.digest, Noted(note, 0)) for target, note in notes if note
        )

    def note(self, blob: Descriptor, target: Repository, upload: Upload, offset: int = 0) -> None:
        """Have others find the session; one whose location is a secret is never written down."""
        place = (target.host, path_of(target), blob.digest)
        note = target.note_of(upload)
        if note is not None:
            self.content.note_session(*place, Noted(note, offset))
        elif offset:
            self.content.drop_session(*place)

    def cancel(self, blob: Descriptor, target: Repository, upload: Upload) -> None:
        """Leave no dead session behind; that it cannot be deleted changes nothing."""
        try:
            target.cancel_upload(upload)
        except Throttled:
            return  # it may not be asked now: whoever brings the blob next finds the note
        except RegistryError:
            pass
        with suppress(LedgerError):
            self.content.drop_session(target.host, path_of(target), blob.digest)


@dataclass(slots=True)
class Delivery:
    """One blob on its way to one target."""

    blob: Descriptor
    session: Session
    reading: Bytes
    sessions: Sessions
    terms: PieceTerms
    sent: Callable[[int], None]
    """Told of every block that was sent, in bytes; may raise to stop."""
    _pieces: Pieces | None = field(init=False)
    _barren: int = 0
    _is_unbroken: bool = False
    """The session was opened here and nothing went wrong since: what it refuses, the registry refuses."""

    def __post_init__(self) -> None:
        session = self.session
        self._pieces = self.terms.pieces_for(self.blob, session.target, takes_pieces=session.takes_pieces)

    def complete(self, patience: Patience) -> None:
        """Bring the blob there, with patience anew after each piece that has landed.

        Raises RegistryError of the end that failed. The session is then closed, unless another attempt
        could go on with it later.
        """
        try:
            self._persist(patience)
        except BaseException as error:
            self._leave(error)
            raise
        self.session.upload = None

    def _persist(self, patience: Patience) -> None:
        while True:
            landed = self.session.offset
            try:
                failure = patience.attempt(self._once)
            except Throttled:
                raise  # it said how long: that is for whoever waits without holding a worker
            except Transient:
                if self.session.offset <= landed:
                    raise
            else:
                if failure is not None:
                    raise failure
                return

    def _once(self) -> RegistryError | None:
        """One attempt; the reading end has had its attempts already, so its failure is returned."""
        try:
            self._send()
        except Transient as error:
            self._is_unbroken = False
            if error is self.reading.failure:
                return error
            self._barren += not self.session.offset
            if self._barren >= MAX_BARREN:
                self._pieces = None
            raise
        return None

    def _send(self) -> None:
        refuses = False
        if self._pieces is not None:
            try:
                self._send_pieces(self._pieces)
            except (Refused, NotFound, Denied, DigestMismatch) as error:
                # Denied before anything landed may be a proxy that knows no PATCH; later it is a quota.
                if error is self.reading.failure or (isinstance(error, Denied) and self.session.offset):
                    raise
                refuses = self._is_unbroken and not isinstance(error, DigestMismatch)
                self._pieces = None
            else:
                return
        self._send_whole()
        if refuses:
            self.sessions.content.note_whole(self.session.target.host)

    def _send_pieces(self, pieces: Pieces) -> None:
        session, upload = self.session, self._taken_up(pieces)
        if upload is None:
            return
        self.reading.seek(session.offset, self.sent)
        session.is_begun = True
        while session.offset < self.blob.size:
            length = max(self.terms.piece_bytes, upload.least_bytes)
            end = min(session.offset + length, self.blob.size)
            upload = pieces.send(upload, self.blob, session.offset, end, self._blocks(end))
            session.upload, session.offset = upload, end
            self.sessions.note(self.blob, session.target, upload, end)
        pieces.finish(upload, self.blob)

    def _taken_up(self, pieces: Pieces) -> Upload | None:
        """An interrupted session where it stands, else a new one; Refused where it cannot be gone on with."""
        session = self.session
        if session.upload is None or not session.offset:
            return self._renew()
        self._is_unbroken = False
        try:
            session.upload, arrived = pieces.progress(session.upload, self.blob)
        except Permanent as error:
            raise Refused(error.end, error.what, f"the upload cannot go on: {error.reason}") from error
        # A registry may not say: then the answer to the next piece shows whether our count is right.
        if arrived is not None and not session.offset <= arrived <= self.blob.size:
            reason = f"{session.offset} bytes had arrived, now it says {arrived}"
            raise Refused(session.target.host, self.blob.digest, reason)
        session.offset = arrived or session.offset
        return session.upload

    def _send_whole(self) -> None:
        upload = self._renew()
        if upload is None:
            return
        self.reading.seek(0, self.sent)
        self.session.is_begun = True
        self.session.target.finish_upload(upload, self.blob, self._blocks(self.blob.size))

    def _renew(self) -> Upload | None:
        """A session without a byte in it: the one that is open, or a new one in its place."""
        session = self.session
        if session.upload is not None and session.is_begun:
            self.sessions.cancel(self.blob, session.target, session.upload)
            session.upload = None
        if session.upload is None:
            session.upload = self.sessions.open(self.blob, session.target)
        session.offset, session.is_begun, self._is_unbroken = 0, False, True
        return session.upload

    def _blocks(self, until: int) -> Iterator[memoryview]:
        for block in self.reading.take(until):
            yield block
            self.sent(len(block))

    def _leave(self, error: BaseException) -> None:
        """After a fault that may pass, a noted session with pieces in it stays for the next attempt."""
        session = self.session
        upload, session.upload = session.upload, None
        if upload is None:
            return
        may_go_on = (
            isinstance(error, (Transient, LedgerError)) and self._pieces is not None and session.offset > 0
        )
        if not (may_go_on and session.target.note_of(upload)):
            self.sessions.cancel(self.blob, session.target, upload)


def path_of(repository: Repository) -> str:
    """The repository's path on its registry: what a mount's ``from`` names."""
    prefix = LAYOUT if repository.host == LAYOUT else f"{repository.host}/"
    return repository.name.removeprefix(prefix)
