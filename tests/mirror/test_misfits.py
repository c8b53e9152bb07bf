"""Sessions and registries that do not fit: the blob is sent whole, and the registry is remembered or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.memory import ErrorReply, MemoryRegistry
from tests.support.copying import (
    BLOB,
    LANDED,
    LAYER,
    PIECE,
    PIECES,
    Rig,
    asked,
    asked_for_bytes,
    refusing,
)
from tests.support.engine import engine_on
from tests.support.valkey import ValkeyServer


def answer_status(status: int, headers: dict[str, str] | None = None) -> Callable[[str, str], None]:
    def hook(method: str, path: str) -> None:
        if method == "GET" and "/uploads/" in path:
            raise ErrorReply(status, "UNSUPPORTED", headers=headers)

    return hook


def test_a_registry_that_does_not_say_how_far_it_is_is_believed_to_be_where_it_was(
    rig: Rig, target: MemoryRegistry
) -> None:
    rig.leave_behind(LANDED)
    target.on_request = answer_status(405)

    assert rig.place().how == "copied"
    assert sum(rig.sent) == BLOB.size - LANDED * PIECE


@pytest.mark.parametrize(
    "hook",
    [
        pytest.param(answer_status(404), id="it has forgotten the session"),
        pytest.param(answer_status(403), id="it does not let us ask"),
        pytest.param(answer_status(204, {"Range": "0-5"}), id="it has lost bytes"),
        pytest.param(answer_status(204, {"Range": f"0-{BLOB.size}"}), id="it has too many bytes"),
        pytest.param(refusing(416, "BLOB_UPLOAD_INVALID"), id="it does not take the next piece"),
        pytest.param(refusing(404, "BLOB_UPLOAD_INVALID"), id="the session is gone at the next piece"),
        pytest.param(refusing(202, headers={"Range": "0-7"}), id="it says that it has something else"),
        pytest.param(refusing(202), id="it says nothing"),
    ],
)
def test_a_session_that_does_not_fit_is_deleted_and_the_blob_sent_whole(
    rig: Rig, target: MemoryRegistry, hook: Callable[[str, str], None]
) -> None:
    rig.leave_behind(LANDED)
    target.forget_requests()
    target.on_request = hook

    assert rig.place().how == "copied"
    assert (asked(target)["DELETE"], asked(target)["PUT"]) == (1, 1)
    assert target.blobs[BLOB.digest] == LAYER
    assert rig.content.sight(rig.host, "app", BLOB.digest).takes_pieces, "one session says nothing of others"


def test_a_registry_that_kept_wrong_bytes_gets_the_blob_again(rig: Rig, target: MemoryRegistry) -> None:
    rig.leave_behind(LANDED)
    (session,) = target._store._sessions.values()
    session._sha256.update(b"rot")

    assert rig.place().how == "copied"
    assert asked(target)["PUT"] == 2
    assert target.blobs[BLOB.digest] == LAYER


def test_bytes_that_another_worker_sent_are_proved_too(rig: Rig, target: MemoryRegistry) -> None:
    """The source changed below what has landed: the blob as a whole is not what it was named."""
    rig.leave_behind(LANDED)
    rig.source.blobs[BLOB.digest] = b"!" + LAYER[1:]

    placing = rig.place()
    assert (placing.how, placing.kind) == ("failed", "DigestMismatch")
    assert rig.source.host in placing.reason
    assert asked_for_bytes(rig.source) == 1, "it is not the target's fault: nothing is tried another way"
    assert not target.holds_blob("app", BLOB.digest)


@pytest.mark.parametrize(
    "hook",
    [
        pytest.param(refusing(416, "REQUESTED_RANGE_NOT_SATISFIABLE"), id="GHCR"),
        pytest.param(refusing(201, headers={"Range": "0-1048575"}), id="ECR"),
        pytest.param(refusing(404, "NOT_FOUND"), id="Google"),
        pytest.param(refusing(405), id="405"),
        pytest.param(refusing(403, "DENIED"), id="a proxy that knows no PATCH"),
        pytest.param(refusing(202, headers={"Range": f"0-{PIECE - 1}"}, after=1), id="a Range that sticks"),
    ],
)
def test_a_registry_that_takes_no_pieces_is_given_blobs_whole_from_then_on(
    rig: Rig, target: MemoryRegistry, valkey: ValkeyServer, hook: Callable[[str, str], None]
) -> None:
    target.on_request = hook
    assert rig.place().how == "copied"
    assert asked(target)["PUT"] == 1
    assert target.blobs[BLOB.digest] == LAYER

    with engine_on(valkey) as engine, valkey.client() as client:
        for other in (Rig(engine, rig.source, rig.host), rig):
            del target.blobs[BLOB.digest]
            other.content.forget(rig.host, "app", [BLOB.digest])
            target.forget_requests()
            assert other.place().how == "copied"
            assert asked(target) == {"POST": 1, "PUT": 1}
            client.flushall()  # this process remembers it by itself


def test_a_registry_that_takes_the_blob_in_no_way_is_not_said_to_refuse_pieces(
    rig: Rig, target: MemoryRegistry
) -> None:
    def too_large(method: str, path: str) -> None:
        if method in {"PATCH", "PUT"}:
            raise ErrorReply(413, "TOO_LARGE")

    target.on_request = too_large
    assert rig.place().kind == "Refused"
    assert rig.content.sight(rig.host, "app", BLOB.digest).takes_pieces


def test_pieces_are_as_large_as_the_registry_wants_them(rig: Rig, target: MemoryRegistry) -> None:
    def at_least(method: str, path: str) -> None:
        if method == "POST":
            upload = target._store.open_session("app")
            location = f"/v2/app/blobs/uploads/{upload.id}"
            raise ErrorReply(202, "-", headers={"Location": location, "OCI-Chunk-Min-Length": f"{2 * PIECE}"})

    target.on_request = at_least
    assert rig.place().how == "copied"
    assert asked(target)["PATCH"] == PIECES / 2
