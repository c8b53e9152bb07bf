"""One large blob, a source, a target and the copies between them: what tests of resuming share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mirror.engine import Engine
from mirror.ledger.batches import Placing
from mirror.ledger.content import Content
from mirror.ledger.keys import Keys
from mirror.resume import PieceTerms, Sessions
from mirror.transfer import Carrier, path_of
from registry.descriptor import OCI_LAYER, Descriptor, digest_of
from registry.memory import Cut, ErrorReply, MemoryRegistry
from registry.repository import Repository, Upload
from tests.support.engine import QUICK

MIB = 2**20
PIECE = MIB
PIECES = 6
LANDED = 3
"""How many pieces are there when something happens."""
ALL_PIECES = {"PATCH": PIECES, "POST": 1, "PUT": 1}
"""What a copy without a fault asks for."""
LAYER = b"".join(bytes([number]) * 1000 for number in range(256)) * 22 + b"the end"
BLOB = Descriptor(OCI_LAYER, digest_of(LAYER), len(LAYER))
TERMS = PieceTerms(from_bytes=4 * MIB, piece_bytes=PIECE)
SMALL = b"small " * 10_000
SMALL_BLOB = Descriptor(OCI_LAYER, digest_of(SMALL), len(SMALL))


@dataclass
class Rig:
    """Copies ``LAYER`` from ``source`` to ``app`` at ``host``."""

    engine: Engine
    source: MemoryRegistry
    host: str
    sent: list[int] = field(default_factory=list)
    """Of every block that a carrier says it sent, its length."""

    @property
    def content(self) -> Content:
        return self.engine.ledger.content

    @property
    def target(self) -> Repository:
        return self.engine.open_repository(f"{self.host}/app")

    def carrier(self, moved: Callable[[int], None] | None = None, tee_bytes: int = 2**30) -> Carrier:
        moved = moved or self.sent.append
        return Carrier(self.content, QUICK, self.engine.memory, tee_bytes, moved, TERMS)

    def place(self, blob: Descriptor = BLOB, carrier: Carrier | None = None) -> Placing:
        source = self.engine.open_repository(f"{self.source.host}/app")
        placed = (carrier or self.carrier()).place(blob, source, [self.target])
        return placed[self.target.name]

    def leave_behind(self, pieces: int, blob: Descriptor = BLOB) -> Upload:
        """What a worker leaves that is killed between two pieces: ``pieces`` of them have landed."""
        target, sessions = self.target, Sessions(self.content)
        upload = sessions.open(blob, target)
        assert upload
        assert target.pieces
        for start in range(0, pieces * PIECE, PIECE):
            end = start + PIECE
            upload = target.pieces.send(upload, blob, start, end, [LAYER[start:end]])
            sessions.note(blob, target, upload, end)
        return upload

    def noted(self, blob: Descriptor = BLOB) -> int | None:
        """How far the session is that the ledger knows of."""
        session = self.content.sight(self.target.host, path_of(self.target), blob.digest).session
        return session.offset if session else None

    def free_lease(self, blob: Descriptor = BLOB) -> None:
        """Not wait for a dead worker's lease to lapse."""
        self.content._redis.delete(Keys("test:").lease(self.host, blob.digest))


def asked(registry: MemoryRegistry) -> dict[str, int]:
    """How often each method was asked about uploads, and how often one was opened (``POST``)."""
    methods = [one.method for one in registry.requests if one.kind in {"upload", "uploads"}]
    return {method: methods.count(method) for method in sorted(set(methods))}


@contextmanager
def on_nth(registry: MemoryRegistry, method: str, number: int, act: Callable[[], None]) -> Iterator[None]:
    """Have ``act`` called, to raise, at one upload request of ``method``, counted from 1."""
    seen = [0]

    def hook(asked_method: str, path: str) -> None:
        if asked_method == method and "/blobs/" in path:
            seen[0] += 1
            if seen[0] == number:
                act()

    registry.on_request = hook
    try:
        yield
    finally:
        registry.on_request = None


def refusing(
    status: int, code: str = "UNSUPPORTED", headers: dict[str, str] | None = None, after: int = 0
) -> Callable[[str, str], None]:
    """A hook: after ``after`` pieces every PATCH gets this answer, and lands nothing."""
    seen: list[str] = []

    def hook(method: str, path: str) -> None:
        if method == "PATCH":
            seen.append(path)
            if len(seen) > after:
                raise ErrorReply(status, code, headers=headers)

    return hook


def cut(after_bytes: int = 0) -> Callable[[], None]:
    def act() -> None:
        raise Cut(after_bytes)

    return act


def asked_for_bytes(registry: MemoryRegistry) -> int:
    return sum(one.kind == "blob" and one.method == "GET" for one in registry.requests)
