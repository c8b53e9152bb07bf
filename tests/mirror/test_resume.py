"""A large blob goes on where it was; where that cannot be it starts over, and no session is left behind."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.engine import Cancelled
from mirror.ledger import LedgerError
from mirror.ledger.content import Noted
from mirror.resume import Sessions
from registry.client import RemoteRepository
from registry.errors import Unreachable
from registry.memory import Cut, MemoryRegistry
from registry.pieces import RemotePieces
from registry.repository import BLOCK, Upload
from tests.conftest import RegistryFactory
from tests.support.copying import (
    ALL_PIECES,
    BLOB,
    LANDED,
    LAYER,
    PIECE,
    PIECES,
    SMALL,
    SMALL_BLOB,
    Rig,
    asked,
    asked_for_bytes,
    cut,
    on_nth,
    refusing,
)
from tests.support.engine import QUICK, engine_on
from tests.support.process import Process
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

# Without a fault.


def test_a_large_blob_is_sent_in_pieces(rig: Rig, target: MemoryRegistry) -> None:
    assert rig.place().how == "copied"

    assert asked(target) == ALL_PIECES
    assert target.blobs[BLOB.digest] == LAYER
    assert sum(rig.sent) == BLOB.size
    assert max(rig.sent) <= BLOCK
    assert rig.noted() is None


def test_a_small_blob_is_sent_whole(rig: Rig, target: MemoryRegistry) -> None:
    assert rig.place(SMALL_BLOB).how == "copied"

    assert asked(target) == {"POST": 1, "PUT": 1}
    assert rig.noted(SMALL_BLOB) is None


def test_remembering_sessions_costs_one_exchange_with_the_ledger(rig: Rig, valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        rig.place()  # scripts are loaded
        client.config_resetstat()
        rig.place(SMALL_BLOB)
        stats = client.info("commandstats")

    calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    # Lease and sight in one script; the session; presence, holder, the ends of session and lease in another.
    assert {name: calls.get(name) for name in ("set", "mget", "del", "evalsha", "eval")} == {
        "set": 4,
        "mget": 1,
        "del": 2,
        "evalsha": 1,
        "eval": 1,
    }


# Broken links within one copy.


def test_a_link_that_breaks_in_a_piece_sends_that_piece_again(rig: Rig, target: MemoryRegistry) -> None:
    with on_nth(target, "PATCH", LANDED + 1, cut(PIECE // 2)):
        assert rig.place().how == "copied"

    assert asked(target) == {**ALL_PIECES, "GET": 1, "PATCH": PIECES + 1}
    assert target.blobs[BLOB.digest] == LAYER
    assert BLOB.size < sum(rig.sent) <= BLOB.size + PIECE
    assert asked_for_bytes(rig.source) == 2, "of the source only the rest is read again"


def test_a_piece_that_landed_without_an_answer_is_not_sent_again(
    rig: Rig, target: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = RemotePieces.send
    lost: list[Upload] = []

    def send_and_lose(self: RemotePieces, *args: object) -> Upload:
        upload = send(self, *args)  # type: ignore[arg-type]  # handed through
        if not lost:
            lost.append(upload)
            raise Unreachable(rig.host, BLOB.digest, "the answer was lost")
        return upload

    monkeypatch.setattr(RemotePieces, "send", send_and_lose)
    # The first piece: as far as the ledger knows nothing has landed, so there is nothing to go on with.
    assert rig.place().how == "copied"
    assert asked(target)["PATCH"] == PIECES + 1

    target.forget_requests()
    del target.blobs[BLOB.digest]
    rig.content.forget(rig.host, "app", [BLOB.digest])
    rig.leave_behind(1)
    lost.clear()
    target.forget_requests()
    assert rig.place().how == "copied"
    assert asked(target)["PATCH"] == PIECES - 1
    assert target.blobs[BLOB.digest] == LAYER


def test_a_link_that_breaks_at_every_piece_gets_there(rig: Rig, target: MemoryRegistry) -> None:
    """More often than one patience has attempts: each piece that lands begins a new one."""
    seen = []

    def every_other(method: str, path: str) -> None:
        if method == "PATCH":
            seen.append(path)
            if len(seen) % 2 == 0:
                raise Cut

    target.on_request = every_other
    assert rig.place().how == "copied"

    assert len(seen) > PIECES + QUICK.attempts
    assert asked(target)["POST"] == 1


def test_a_source_that_breaks_is_asked_for_the_rest(rig: Rig, target: MemoryRegistry) -> None:
    with on_nth(rig.source, "GET", 1, cut(2 * PIECE + 5)):
        assert rig.place().how == "copied"

    assert asked(target) == ALL_PIECES, "the target notices nothing"
    assert sum(rig.sent) == BLOB.size
    assert target.blobs[BLOB.digest] == LAYER


def test_a_source_that_is_gone_is_given_one_patience(rig: Rig, target: MemoryRegistry) -> None:
    rig.source.on_request = lambda *_: cut()()
    placing = rig.place()

    assert (placing.how, placing.kind) == ("failed", "Unreachable")
    assert rig.source.host in placing.reason
    assert asked_for_bytes(rig.source) == QUICK.attempts


def test_a_proxy_that_breaks_every_piece_is_given_the_blob_whole(rig: Rig, target: MemoryRegistry) -> None:
    target.on_request = refusing(502, "UNKNOWN")

    assert rig.place().how == "copied"
    assert asked(target)["PATCH"] == 2


# After a kill, or after patience.

WORKER = """
import sys
from mirror.resume import PieceTerms
from tests.support import copying, engine
from tests.support.copying import BLOB, SMALL_BLOB, Rig
from types import SimpleNamespace
import redis
redis_url, source, target, which = sys.argv[1:]
valkey = SimpleNamespace(client=lambda: redis.Redis.from_url(redis_url))
with engine.engine_on(valkey) as made:
    rig = Rig(made, SimpleNamespace(host=source), target)
    rig.place(BLOB if which == "large" else SMALL_BLOB)
"""


@pytest.mark.parametrize(
    ("which", "method", "then"),
    [
        ("large", "PATCH", {"GET": 1, "PATCH": PIECES - LANDED, "PUT": 1}),
        ("small", "PUT", {"DELETE": 1, "POST": 1, "PUT": 1}),
    ],
)
def test_the_session_of_a_killed_worker_is_gone_on_with_or_deleted(
    rig: Rig, target: MemoryRegistry, valkey: ValkeyServer, tmp_path: Path, which: str, method: str,
    then: dict[str, int],
) -> None:  # fmt: skip
    reached, killed = threading.Event(), threading.Event()
    blob = BLOB if which == "large" else SMALL_BLOB

    def hold() -> None:
        reached.set()
        killed.wait(30)
        raise Cut

    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    argv = [sys.executable, str(script), valkey.url, rig.source.host, rig.host, which]
    with (
        on_nth(target, method, LANDED + 1 if which == "large" else 1, hold),
        Process(argv, tmp_path / "worker.log", {"PYTHONPATH": str(Path.cwd())}) as worker,
    ):
        until(reached.is_set, 20, worker.tail)
        worker.kill()
        killed.set()
    assert target.open_sessions == 1
    assert rig.noted(blob) == (LANDED * PIECE if which == "large" else 0)
    rig.free_lease(blob)
    target.forget_requests()

    assert rig.place(blob).how == "copied"
    assert asked(target) == then
    assert sum(rig.sent) == blob.size - (LANDED * PIECE if which == "large" else 0)
    assert target.blobs[BLOB.digest if which == "large" else SMALL_BLOB.digest] in {LAYER, SMALL}
    assert rig.noted(blob) is None


def test_a_fault_that_outlasts_patience_leaves_the_session_to_the_next_attempt(
    rig: Rig, target: MemoryRegistry
) -> None:
    target.on_request = refusing(503, "UNAVAILABLE", after=LANDED)
    placing = rig.place()
    assert (placing.how, placing.kind) == ("failed", "Transient")
    assert (target.open_sessions, rig.noted()) == (1, LANDED * PIECE)
    target.on_request = None
    rig.sent.clear()

    assert rig.place().how == "copied"
    assert sum(rig.sent) == BLOB.size - LANDED * PIECE


def test_a_ledger_that_goes_away_leaves_the_session_to_the_next_attempt(
    rig: Rig, target: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise LedgerError("gone")

    def at_piece(count: int) -> None:
        rig.sent.append(count)
        if sum(rig.sent) > LANDED * PIECE:
            gone()

    with pytest.raises(LedgerError):
        rig.place(carrier=rig.carrier(at_piece))
    assert rig.noted() == LANDED * PIECE
    with monkeypatch.context() as patched:
        patched.setattr(rig.content, "note_sessions", gone)
        with pytest.raises(LedgerError):
            rig.place(SMALL_BLOB)
    assert target.open_sessions == 1, "a session that cannot be noted is not kept"

    assert rig.place().how == "copied"
    assert target.blobs[BLOB.digest] == LAYER


def test_a_full_registry_is_not_sent_the_blob_again(rig: Rig, target: MemoryRegistry) -> None:
    target.on_request = refusing(403, "DENIED", after=LANDED)
    placing = rig.place()

    assert (placing.how, placing.kind) == ("failed", "Denied")
    assert "PUT" not in asked(target)


def test_a_registry_that_asks_for_patience_is_not_asked_again_at_once(
    rig: Rig, target: MemoryRegistry
) -> None:
    target.on_request = refusing(429, "TOOMANYREQUESTS", {"Retry-After": "3600"}, after=LANDED)
    placing = rig.place()

    assert (placing.how, placing.kind) == ("failed", "Throttled")
    assert asked(target)["PATCH"] == LANDED + 1
    target.on_request = None
    assert rig.place().how == "copied"


def test_a_cancelled_run_deletes_its_session(rig: Rig, target: MemoryRegistry) -> None:
    def stop(_: int) -> None:
        if asked(target).get("PATCH", 0) > LANDED:
            raise Cancelled("run")

    with pytest.raises(Cancelled):
        rig.place(carrier=rig.carrier(stop))
    assert target.open_sessions == 0
    assert rig.noted() is None


def test_reading_over_what_has_landed_can_be_stopped_too(rig: Rig, target: MemoryRegistry) -> None:
    rig.leave_behind(LANDED)

    def stop(count: int) -> None:
        assert count == 0, "nothing of it is sent"
        raise Cancelled("run")

    with pytest.raises(Cancelled):
        rig.place(carrier=rig.carrier(stop))


def test_a_blob_that_is_there_after_all_needs_no_session(rig: Rig, target: MemoryRegistry) -> None:
    rig.leave_behind(LANDED)
    target.hold_blob("app", LAYER)

    assert rig.place().how == "present"


def test_a_registry_that_mounts_needs_no_session(rig: Rig, target: MemoryRegistry) -> None:
    rig.leave_behind(LANDED)
    target.hold_blob("other", LAYER)
    rig.content.saw(rig.host, "other", BLOB.digest, rig.engine.memory)

    assert rig.place().how == "mounted"


def test_a_mount_that_opens_a_session_does_not_make_two(rig: Rig, target: MemoryRegistry) -> None:
    rig.leave_behind(LANDED)
    rig.content.saw(rig.host, "elsewhere", BLOB.digest, rig.engine.memory)

    assert rig.place().how == "copied"
    assert sum(rig.sent) == BLOB.size - LANDED * PIECE


def test_all_that_was_missing_is_the_last_put(rig: Rig, target: MemoryRegistry) -> None:
    rig.leave_behind(PIECES - 1)
    with on_nth(target, "PUT", 1, cut()):
        assert rig.place().how == "copied"

    assert sum(rig.sent) == BLOB.size - (PIECES - 1) * PIECE
    assert target.blobs[BLOB.digest] == LAYER


def test_a_session_that_nobody_could_find_again_is_deleted_at_once(
    rig: Rig, target: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoteRepository, "note_of", lambda *_: None)
    target.on_request = refusing(503, "UNAVAILABLE", after=LANDED)

    assert rig.place().kind == "Transient"
    assert (target.open_sessions, rig.noted()) == (0, None)


def test_a_session_that_a_mount_opened_is_noted_too(rig: Rig, target: MemoryRegistry) -> None:
    noted: list[int | None] = []
    rig.content.saw(rig.host, "elsewhere", SMALL_BLOB.digest, rig.engine.memory)

    with on_nth(target, "PUT", 1, lambda: noted.append(rig.noted(SMALL_BLOB))):
        assert rig.place(SMALL_BLOB).how == "copied"
    assert noted == [0]


# Several targets.


def test_a_target_that_drops_out_of_a_shared_read_gets_its_copy_in_pieces(
    rig: Rig, target: MemoryRegistry
) -> None:
    with MemoryRegistry() as good, on_nth(target, "PUT", 1, cut(PIECE)):
        others = [rig.target, rig.engine.open_repository(f"{good.host}/app")]
        source = rig.engine.open_repository(f"{rig.source.host}/app")
        placed = rig.carrier(tee_bytes=0).place(BLOB, source, others)

        assert {one.how for one in placed.values()} == {"copied"}
        assert asked(good) == {"POST": 1, "PUT": 1}
        assert asked(target) == {"DELETE": 1, "PATCH": PIECES, "POST": 2, "PUT": 2}
        assert good.open_sessions == 0


def test_a_source_that_is_gone_is_given_one_patience_for_all_targets(
    rig: Rig, target: MemoryRegistry
) -> None:
    rig.source.on_request = lambda *_: cut()()
    with MemoryRegistry() as other:
        targets = [rig.target, rig.engine.open_repository(f"{other.host}/app")]
        source = rig.engine.open_repository(f"{rig.source.host}/app")
        placed = rig.carrier(tee_bytes=0).place(BLOB, source, targets)

        assert {one.kind for one in placed.values()} == {"Unreachable"}
        assert asked_for_bytes(rig.source) == QUICK.attempts
        assert other.open_sessions == 0


def test_a_target_with_a_session_left_behind_takes_no_part_in_a_shared_read(
    rig: Rig, target: MemoryRegistry
) -> None:
    rig.leave_behind(LANDED)
    with MemoryRegistry() as other:
        targets = [rig.target, rig.engine.open_repository(f"{other.host}/app")]
        source = rig.engine.open_repository(f"{rig.source.host}/app")
        placed = rig.carrier(tee_bytes=0).place(BLOB, source, targets)

        assert {one.how for one in placed.values()} == {"copied"}
        assert sum(rig.sent) == 2 * BLOB.size - LANDED * PIECE
        assert other.open_sessions == 0


# Secrets and layouts.


def test_a_session_on_another_host_is_never_written_down(
    rig: Rig, target: MemoryRegistry, valkey: ValkeyServer
) -> None:
    signed = Upload("https://storage.example/bucket/x?X-Amz-Signature=hunter2")
    rig.content.note_session(rig.host, "app", BLOB.digest, Noted("/v2/app/blobs/uploads/old", PIECE))
    Sessions(rig.content).note(BLOB, rig.target, signed, 2 * PIECE)

    assert rig.noted() is None, "what was known of it before is no longer true"
    Sessions(rig.content).note(BLOB, rig.target, signed)
    with valkey.client() as client:
        assert not any("session" in str(key) for key in client.keys("*"))


def test_a_layout_starts_over_and_its_dead_file_goes(
    rig: Rig, target: MemoryRegistry, tmp_path: Path
) -> None:
    layout = rig.engine.open_repository(f"oci:{tmp_path}/images")
    dead = Sessions(rig.content).open(BLOB, layout)
    assert dead
    Path(dead.location).write_bytes(LAYER[:PIECE])

    source = rig.engine.open_repository(f"{rig.source.host}/app")
    placed = rig.carrier().place(BLOB, source, [layout])

    assert placed[layout.name].how == "copied"
    assert not Path(dead.location).exists()
    assert sum(rig.sent) == BLOB.size


# Against CNCF distribution.


@pytest.fixture
def real(valkey: ValkeyServer, registry_factory: RegistryFactory) -> Iterator[Rig]:
    with MemoryRegistry() as source, engine_on(valkey) as engine:
        source.hold_blob("app", LAYER)
        yield Rig(engine, source, registry_factory().host)


def test_distribution_goes_on_at_the_border_of_a_piece(real: Rig) -> None:
    real.leave_behind(LANDED)

    assert real.place().how == "copied"
    assert sum(real.sent) == BLOB.size - LANDED * PIECE
    with real.target.open_blob(BLOB) as blocks:
        assert b"".join(bytes(block) for block in blocks) == LAYER


def test_distribution_starts_over_after_a_cut_within_a_piece(real: Rig) -> None:
    """Its Location holds the offset, signed: a session that has more bytes than that is lost to everybody."""
    upload = real.leave_behind(LANDED)
    start, pieces = LANDED * PIECE, real.target.pieces

    def breaks_off() -> Iterator[bytes]:
        yield LAYER[start : start + PIECE // 2]
        raise ConnectionAbortedError

    assert pieces
    with pytest.raises(ConnectionAbortedError):
        pieces.send(upload, BLOB, start, start + PIECE, breaks_off())

    assert real.place().how == "copied"
    assert sum(real.sent) == BLOB.size
    with real.target.open_blob(BLOB) as blocks:
        assert b"".join(bytes(block) for block in blocks) == LAYER
