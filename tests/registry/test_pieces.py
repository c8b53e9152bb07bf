"""Uploads in pieces: what is sent, what has to come back, and which sessions may be written down."""

from __future__ import annotations

import json
import threading

import pytest

from registry.client import RemoteRepository
from registry.endpoint import Timeouts
from registry.errors import DigestMismatch, NotFound, Refused, Throttled, Transient, Unsafe
from registry.pieces import MAX_NOTE_CHARS
from registry.repository import Upload
from tests.conftest import RegistryFactory
from tests.support.opening import Opener
from tests.support.scripted import BLOB, LAYER, UPLOADS, read, refusing
from tests.support.wire import Call, Script, Wire, answering, in_turn

HALF = len(LAYER) // 2


def landed(count: int, location: str = "", range_: str = "0-{}") -> Script:
    headers = {"Location": location} if location else {}
    return answering(202, b"", {**headers, "Range": range_.format(count - 1)})


def session(wire: Wire, name: str = "abc?_state=0") -> Upload:
    return Upload(f"{wire.url}{UPLOADS}{name}")


def test_a_blob_goes_up_in_pieces(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = in_turn(
        answering(202, b"", {"Location": f"{UPLOADS}abc?_state=0"}),
        landed(HALF, f"{UPLOADS}abc?_state=a%2Fb"),
        landed(BLOB.size, f"{wire.url}{UPLOADS}abc?_state=c"),
        answering(201),
    )
    upload = repository.start_upload(BLOB)
    assert upload
    upload = repository.pieces.send(upload, BLOB, 0, HALF, [LAYER[:5], LAYER[5:HALF]])
    upload = repository.pieces.send(upload, BLOB, HALF, BLOB.size, [memoryview(LAYER)[HALF:]])
    repository.pieces.finish(upload, BLOB)

    _, first, second, put = wire.calls
    assert [call.target for call in (first, second, put)] == [
        f"{UPLOADS}abc?_state=0",
        f"{UPLOADS}abc?_state=a%2Fb",
        f"{UPLOADS}abc?_state=c&digest={BLOB.digest}",
    ]
    assert (first.method, first.headers["content-range"]) == ("PATCH", f"0-{HALF - 1}")
    assert (second.method, second.headers["content-range"]) == ("PATCH", f"{HALF}-{BLOB.size - 1}")
    assert first.body() + second.body() == LAYER
    assert (put.method, put.body(), put.headers["content-length"]) == ("PUT", b"", "0")
    assert {call.headers["content-type"] for call in (first, second, put)} == {"application/octet-stream"}


def test_the_smallest_piece_is_remembered_for_the_whole_session(
    repository: RemoteRepository, wire: Wire
) -> None:
    terms = {"Location": f"{UPLOADS}abc", "OCI-Chunk-Min-Length": "5242880"}
    wire.script = in_turn(answering(202, b"", terms), landed(HALF, f"{UPLOADS}def"))

    upload = repository.start_upload(BLOB)
    assert upload
    assert upload.least_bytes == 5242880
    assert repository.pieces.send(upload, BLOB, 0, HALF, [LAYER[:HALF]]).least_bytes == 5242880


@pytest.mark.parametrize("range_", ["0-{}", "bytes=0-{}", "bytes 0-{}"])
def test_a_piece_is_confirmed_by_its_range(repository: RemoteRepository, wire: Wire, range_: str) -> None:
    wire.script = landed(HALF, range_=range_)

    upload = session(wire)
    assert repository.pieces.send(upload, BLOB, 0, HALF, [LAYER[:HALF]]) == upload


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(landed(7), id="another Range"),
        pytest.param(landed(HALF, range_="5-{}"), id="a Range from elsewhere"),
        pytest.param(answering(202), id="no Range"),
        pytest.param(answering(201, b"", {"Range": f"0-{HALF - 1}"}), id="201, as ECR"),
        pytest.param(refusing(416, "REQUESTED_RANGE_NOT_SATISFIABLE"), id="416, as GHCR"),
        pytest.param(refusing(405, "UNSUPPORTED"), id="405"),
    ],
)
def test_a_piece_that_is_not_confirmed_is_refused(
    repository: RemoteRepository, wire: Wire, script: Script
) -> None:
    wire.script = script

    with pytest.raises(Refused):
        repository.pieces.send(session(wire), BLOB, 0, HALF, [LAYER[:HALF]])


def test_a_registry_without_pieces_or_without_the_session_says_not_found(
    repository: RemoteRepository, wire: Wire
) -> None:
    wire.script = refusing(404, "BLOB_UPLOAD_INVALID")

    with pytest.raises(NotFound):
        repository.pieces.send(session(wire), BLOB, 0, HALF, [LAYER[:HALF]])


@pytest.mark.parametrize(("status", "error"), [(500, Transient), (429, Throttled), (401, Transient)])
def test_a_registry_that_is_unwell_may_take_the_piece_later(
    repository: RemoteRepository, wire: Wire, status: int, error: type[Transient]
) -> None:
    """Also where a token ran out in the middle: the piece cannot be sent again, the next one can."""

    def unwell(call: Call) -> None:
        call.body()
        challenge = {"WWW-Authenticate": f'Bearer realm="{wire.url}/token",service="x"'}
        token = call.path == "/token"
        body = json.dumps({"token": "fresh"}) if token else ""
        call.answer(200 if token else status, body, challenge)

    wire.script = unwell
    with pytest.raises(error):
        repository.pieces.send(session(wire), BLOB, 0, HALF, [LAYER[:HALF]])


@pytest.mark.parametrize(
    ("script", "has"),
    [
        (answering(204, b"", {"Range": f"0-{HALF - 1}"}), HALF),
        (answering(202, b"", {"Range": f"bytes=0-{HALF - 1}"}), HALF),
        (answering(204, b"", {"Range": "0-0"}), 0),
        (answering(204), None),
        (refusing(405), None),
        (refusing(501), None),
    ],
)
def test_a_session_is_asked_how_far_it_is(
    repository: RemoteRepository, wire: Wire, script: Script, has: int | None
) -> None:
    wire.script = script
    upload = session(wire)

    assert repository.pieces.progress(upload, BLOB) == (upload, has)
    assert wire.asked() == [("GET", f"{UPLOADS}abc?_state=0")]


def test_a_session_goes_on_where_its_status_says(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(204, b"", {"Range": "0-9", "Location": f"{UPLOADS}abc?_state=new"})

    assert repository.pieces.progress(session(wire), BLOB) == (session(wire, "abc?_state=new"), 10)


@pytest.mark.parametrize("code", ["", "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])
def test_a_session_that_is_no_more_is_not_found(repository: RemoteRepository, wire: Wire, code: str) -> None:
    """Transient would have it asked for again and again."""
    wire.script = refusing(404, code)

    with pytest.raises(NotFound):
        repository.pieces.progress(session(wire), BLOB)


def test_a_piece_may_take_as_long_to_store_as_a_blob(open_at: Opener, wire: Wire) -> None:
    def slow(call: Call) -> None:
        call.body()
        assert not threading.Event().wait(0.6)
        landed(HALF)(call)

    wire.script = slow
    repository = open_at(wire.host, timeouts=Timeouts(read_s=0.2, commit_s=10.0))
    repository.pieces.send(session(wire), BLOB, 0, HALF, [LAYER[:HALF]])


def test_a_session_must_not_move_to_another_host(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = landed(HALF, "https://elsewhere.example/x?sig=hunter2")

    with pytest.raises(Unsafe) as caught:
        repository.pieces.send(session(wire), BLOB, 0, HALF, [LAYER[:HALF]])
    assert "hunter2" not in str(caught.value)


def test_wrong_bytes_in_the_registry_are_a_digest_mismatch(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(201, b"", {"Docker-Content-Digest": f"sha256:{'0' * 64}"})

    with pytest.raises(DigestMismatch):
        repository.pieces.finish(session(wire), BLOB)


# What may be written down.


def test_a_session_on_the_registrys_own_host_can_be_found_again(
    repository: RemoteRepository, wire: Wire
) -> None:
    upload = session(wire, "abc?_state=a%2Fb%3D")

    note = repository.note_of(upload)
    assert note == f"{UPLOADS}abc?_state=a%2Fb%3D"
    assert repository.noted(str(note)) == upload


@pytest.mark.parametrize(
    "location",
    [
        "https://storage.example/bucket/x?X-Amz-Signature=hunter2",
        "https://elsewhere.example/x",
        f"/v2/team/app/blobs/uploads/{'x' * MAX_NOTE_CHARS}",
    ],
    ids=["allowed", "forbidden", "endless"],
)
def test_any_other_session_is_a_secret(open_at: Opener, wire: Wire, location: str) -> None:
    """On another host the address itself is the right to write there."""
    repository = open_at(wire.host, upload_hosts=("storage.example",))
    base = "" if location.startswith("https") else wire.url

    assert repository.note_of(Upload(base + location)) is None


@pytest.mark.parametrize(
    "note", ["//evil.example/x", "https://evil.example/x", "@evil.example/x", ":1@evil/"]
)
def test_a_note_never_leads_to_another_host(repository: RemoteRepository, wire: Wire, note: str) -> None:
    """Whoever can write to the ledger gets no credentials sent anywhere."""
    wire.script = answering(404)
    upload = repository.noted(note)

    repository.cancel_upload(upload)
    with pytest.raises(NotFound):
        repository.pieces.progress(upload, BLOB)
    assert len(wire.calls) == 2


def test_distribution_takes_pieces_and_says_how_far_it_is(
    open_at: Opener, registry_factory: RegistryFactory
) -> None:
    registry = registry_factory()
    repository = open_at(registry.host)
    upload = repository.start_upload(BLOB)
    assert upload
    assert repository.pieces.progress(upload, BLOB)[1] == 0
    upload = repository.pieces.send(upload, BLOB, 0, HALF, [LAYER[:HALF]])

    note = open_at(registry.host).note_of(upload)
    assert note
    found, has = open_at(registry.host).pieces.progress(repository.noted(note), BLOB)
    assert has == HALF
    upload = repository.pieces.send(found, BLOB, HALF, BLOB.size, [LAYER[HALF:]])
    repository.pieces.finish(upload, BLOB)
    assert read(repository) == LAYER


def test_distribution_deletes_a_session_between_two_pieces(
    open_at: Opener, registry_factory: RegistryFactory
) -> None:
    registry = registry_factory()
    repository = open_at(registry.host)
    upload = repository.start_upload(BLOB)
    assert upload
    upload = repository.pieces.send(upload, BLOB, 0, HALF, [LAYER[:HALF]])

    repository.cancel_upload(upload)

    assert not list(registry.storage.rglob("_uploads/*/data"))
    with pytest.raises(NotFound):
        repository.pieces.progress(upload, BLOB)
