"""Moving one blob: verified, once per registry, read once for several targets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from mirror.engine import Cancelled, Engine
from mirror.ledger.batches import Placing
from mirror.reading import Reading
from mirror.tee import tee
from mirror.transfer import Busy, Carrier, path_of
from registry.descriptor import OCI_LAYER, Descriptor, digest_of
from registry.errors import DigestMismatch, RegistryError, Unreachable
from registry.layout import LayoutRepository
from registry.memory import Cut, ErrorReply, MemoryRegistry
from registry.repository import Repository, Upload
from tests.support.engine import QUICK, engine_on
from tests.support.valkey import ValkeyServer

CONTENT = bytes(range(256)) * 4096  # 1 MiB
BLOB = Descriptor(OCI_LAYER, digest_of(CONTENT), len(CONTENT))


@dataclass
class Yard:
    engine: Engine
    source: MemoryRegistry
    targets: list[MemoryRegistry]
    moved: list[int]

    def carrier(self, moved: Callable[[int], None] | None = None, tee_bytes: int = 2**30) -> Carrier:
        engine = self.engine
        return Carrier(
            engine.ledger.content, engine.patience, engine.memory, tee_bytes, moved or self.moved.append
        )

    def repository(self, registry: MemoryRegistry, path: str = "app") -> Repository:
        return self.engine.open_repository(f"{registry.host}/{path}")

    @property
    def repositories(self) -> list[Repository]:
        return [self.repository(target) for target in self.targets]

    def place(self, carrier: Carrier | None = None) -> dict[str, Placing]:
        return (carrier or self.carrier()).place(BLOB, self.repository(self.source), self.repositories)


@pytest.fixture
def yard(valkey: ValkeyServer) -> Iterator[Yard]:
    with ExitStack() as stack:
        source, *targets = [stack.enter_context(MemoryRegistry()) for _ in range(3)]
        source.hold_blob("app", CONTENT)
        yield Yard(stack.enter_context(engine_on(valkey)), source, targets, [])


def reads(registry: MemoryRegistry) -> int:
    return sum(one.kind == "blob" and one.method == "GET" for one in registry.requests)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (CONTENT[:-1], "ends after 1048575 of 1048576 bytes"),
        (CONTENT + b"!", "more than the 1048576 bytes"),
        (b"!" + CONTENT[1:], "hash to sha256:"),
    ],
)
def test_bytes_that_are_not_what_was_promised_blame_the_end_that_sent_them(sent: bytes, says: str) -> None:
    passed = bytearray()

    def receive() -> None:
        for block in reading(BLOB, sent).take(BLOB.size):
            passed.extend(block)

    with pytest.raises(DigestMismatch, match=says) as caught:
        receive()
    assert caught.value.end == "src.example"
    assert len(passed) < BLOB.size, "a target must never be given a whole body that is wrong"


def test_an_empty_blob_is_proved_too() -> None:
    empty = Descriptor(OCI_LAYER, digest_of(b""), 0)
    assert list(reading(empty, b"").take(0)) == []
    with pytest.raises(DigestMismatch):
        list(reading(Descriptor(OCI_LAYER, digest_of(b"x"), 0), b"").take(0))


def test_a_blob_is_copied_once_and_then_believed_to_be_there(yard: Yard) -> None:
    assert {placing.how for placing in yard.place().values()} == {"copied"}
    assert sum(yard.moved) == 2 * BLOB.size
    yard.targets[0].forget_requests()

    assert {placing.how for placing in yard.place().values()} == {"present"}
    assert yard.targets[0].requests == []


def test_several_targets_are_filled_by_one_read(yard: Yard) -> None:
    placed = yard.place(yard.carrier(tee_bytes=0))

    assert {placing.how for placing in placed.values()} == {"copied"}
    assert reads(yard.source) == 1
    assert all(target.holds_blob("app", BLOB.digest) for target in yard.targets)


def test_a_small_blob_that_several_targets_miss_is_read_once(yard: Yard) -> None:
    placed = yard.place()

    assert {placing.how for placing in placed.values()} == {"copied"}
    assert reads(yard.source) == 1
    assert sum(yard.moved) == 2 * BLOB.size
    assert all(target.holds_blob("app", BLOB.digest) for target in yard.targets)


def test_a_small_blob_is_not_read_again_for_a_target_that_breaks(yard: Yard) -> None:
    cuts: list[str] = []

    def cut_once(method: str, path: str) -> None:
        if method == "PUT" and not cuts:
            cuts.append(path)
            raise Cut

    yard.targets[0].on_request = cut_once
    placed = yard.place()

    assert cuts
    assert {placing.how for placing in placed.values()} == {"copied"}
    assert reads(yard.source) == 1
    assert all(target.holds_blob("app", BLOB.digest) for target in yard.targets)


def test_a_small_blob_of_wrong_bytes_reaches_no_target(yard: Yard) -> None:
    yard.source.blobs[BLOB.digest] = b"!" + CONTENT[1:]

    placed = yard.place()

    assert {placing.kind for placing in placed.values()} == {"DigestMismatch"}
    assert all(yard.source.host in placing.reason for placing in placed.values())
    assert [one.kind for target in yard.targets for one in target.requests if one.method == "PUT"] == []
    assert [target.open_sessions for target in yard.targets] == [0, 0]


def test_a_target_that_breaks_gets_a_copy_of_its_own(yard: Yard) -> None:
    broken = yard.targets[1]
    cuts: list[str] = []

    def cut_once(method: str, path: str) -> None:
        if method == "PUT" and not cuts:
            cuts.append(path)
            raise Cut

    broken.on_request = cut_once
    placed = yard.place(yard.carrier(tee_bytes=0))

    assert cuts
    assert {placing.how for placing in placed.values()} == {"copied"}
    assert reads(yard.source) == 2
    assert all(target.holds_blob("app", BLOB.digest) for target in yard.targets)


def test_a_target_that_refuses_does_not_keep_the_others_from_the_blob(yard: Yard) -> None:
    def refuse(method: str, path: str) -> None:
        if method == "PUT":
            raise ErrorReply(413, "TOO_LARGE", "layer too large")

    yard.targets[1].on_request = refuse
    placed = yard.place(yard.carrier(tee_bytes=0))

    good, bad = (placed[repository.name] for repository in yard.repositories)
    assert good.how == "copied"
    assert (bad.how, bad.kind) == ("failed", "Refused")
    assert "layer too large" in bad.reason
    assert [target.open_sessions for target in yard.targets] == [0, 0]


def test_a_source_that_breaks_is_blamed_and_read_again(yard: Yard) -> None:
    cuts: list[str] = []

    def cut_once(method: str, path: str) -> None:
        if method == "GET" and not cuts:
            cuts.append(path)
            raise Cut

    yard.source.on_request = cut_once
    placed = yard.place()

    assert {placing.how for placing in placed.values()} == {"copied"}
    yard.source.on_request = lambda *_: (_ for _ in ()).throw(Cut())
    for target in yard.targets:
        del target.blobs[BLOB.digest]
    for repository in yard.repositories:
        yard.engine.ledger.content.forget(repository.host, path_of(repository), [BLOB.digest])
    failed = yard.place()
    assert all(yard.source.host in placing.reason for placing in failed.values())


def test_the_same_registry_gets_the_bytes_once_for_two_repositories(yard: Yard) -> None:
    targets = [yard.repository(yard.targets[0], path) for path in ("one", "two")]

    placed = yard.carrier().place(BLOB, yard.repository(yard.source), targets)

    assert [placed[target.name].how for target in targets] == ["copied", "mounted"]


def test_a_blob_that_another_worker_is_bringing_is_left_to_it(yard: Yard) -> None:
    lease = yard.engine.ledger.content.leases.take(yard.targets[1].host, BLOB.digest)
    assert lease

    with pytest.raises(Busy):
        yard.place()
    assert reads(yard.source) == 0
    assert yard.engine.ledger.content.leases.take(yard.targets[0].host, BLOB.digest), (
        "no lease may be left held"
    )


@pytest.mark.parametrize("tee_bytes", [0, 2**30])
def test_a_cancelled_run_stops_in_the_middle_and_leaves_no_session(yard: Yard, tee_bytes: int) -> None:
    def cancelled(_: int) -> None:
        raise Cancelled("run")

    with pytest.raises(Cancelled):
        yard.place(yard.carrier(cancelled, tee_bytes))
    assert [target.open_sessions for target in yard.targets] == [0, 0]


def test_a_target_that_takes_no_bytes_drops_out_of_a_shared_read() -> None:
    released = threading.Event()
    stuck, good = _Sink("stuck.example/app", released), _Sink("good.example/app")
    sessions = [(_as_repository(sink), Upload("secret")) for sink in (stuck, good)]

    def blocks() -> Iterator[bytes]:
        yield from (CONTENT[at : at + 1000] for at in range(0, len(CONTENT), 1000))

    try:
        failures = tee(BLOB, blocks, sessions, stall_s=0.5)
    finally:
        released.set()

    assert set(failures) == {stuck.name}
    assert isinstance(failures[stuck.name], Unreachable)
    assert bytes(good.received) == CONTENT


def test_a_fault_of_ours_in_one_branch_rises_instead_of_passing_for_success() -> None:
    class Faulty(_Sink):
        def finish_upload(self, _: Upload, blob: Descriptor, chunks: Iterator[bytes]) -> None:
            raise TypeError(f"a bug before {blob.digest} of {chunks}")

    with pytest.raises(TypeError, match="a bug"):
        tee(BLOB, lambda: iter([CONTENT]), [(_as_repository(Faulty("r.example/app")), Upload("x"))])


def test_a_path_is_what_a_mount_names() -> None:
    layout = LayoutRepository("/srv/images")
    assert path_of(layout) == "/srv/images"


def reading(blob: Descriptor, sent: bytes) -> Reading:
    """Of a source that sends these bytes."""
    return Reading(blob, _Source(sent), QUICK)


@dataclass
class _Source:
    sent: bytes
    host: str = "src.example"
    name: str = "src.example/app"

    @contextmanager
    def open_blob(self, blob: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:  # noqa: ARG002 - whichever
        yield (self.sent[at : at + 1000] for at in range(offset, len(self.sent), 1000))


class _Sink:
    """A target at the seam; with an event it takes nothing until that is set."""

    def __init__(self, name: str, released: threading.Event | None = None) -> None:
        self.name, self.host = name, name.partition("/")[0]
        self.received = bytearray()
        self._released = released

    def finish_upload(self, _: Upload, blob: Descriptor, chunks: Iterator[bytes]) -> None:
        if self._released:
            self._released.wait()
        for chunk in chunks:
            self.received += chunk
        if len(self.received) != blob.size:
            raise RegistryError(self.name, blob.digest, "short")


def _as_repository(sink: _Sink) -> Repository:
    return sink  # type: ignore[return-value]  # tee uses name, host and finish_upload of it
