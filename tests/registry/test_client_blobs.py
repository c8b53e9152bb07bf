"""The client against scripted registries: blobs down and up."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from registry.client import RemoteRepository
from registry.endpoint import Timeouts
from registry.errors import (
    DigestMismatch,
    Refused,
    Transient,
    Unreachable,
)
from registry.repository import BLOCK, Upload
from tests.support.opening import Opener
from tests.support.scripted import (
    BLOB,
    HELD,
    LAYER,
    UPLOADS,
    described,
    read,
    refusing,
)
from tests.support.wire import Call, Script, Wire, answering, in_turn, routed


def test_a_blob_is_read_in_blocks(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = routed({("GET", HELD): answering(200, LAYER), ("HEAD", HELD): answering(200, LAYER)})

    assert repository.blob_size(BLOB.digest) == BLOB.size
    with repository.open_blob(BLOB) as blocks:
        assert all(len(block) <= BLOCK for block in blocks)
    assert read(repository) == LAYER


@pytest.mark.parametrize("honours", [True, False], ids=["206", "200"])
@pytest.mark.parametrize("offset", [1, 100_000, len(LAYER) - 1])
def test_a_blob_can_be_read_from_an_offset_also_where_ranges_are_ignored(
    repository: RemoteRepository, wire: Wire, offset: int, *, honours: bool
) -> None:
    partial = {"Content-Range": f"bytes {offset}-{len(LAYER) - 1}/{len(LAYER)}"}
    wire.script = answering(206, LAYER[offset:], partial) if honours else answering(200, LAYER)

    assert read(repository, offset=offset) == LAYER[offset:]
    assert wire.calls[0].headers["range"] == f"bytes={offset}-"


def test_nothing_is_asked_for_after_the_end(repository: RemoteRepository, wire: Wire) -> None:
    assert read(repository, offset=BLOB.size) == b""
    assert wire.calls == []


@pytest.mark.parametrize("range_", ["bytes 0-9/10", "bytes 5-9/640000", "", "5-639999/640000"])
def test_another_range_than_asked_for_is_refused(
    repository: RemoteRepository, wire: Wire, range_: str
) -> None:
    wire.script = answering(206, LAYER[5:], {"Content-Range": range_})

    with pytest.raises(Refused, match="bytes 5-"):
        read(repository, offset=5)


def test_a_blob_of_another_size_is_not_even_begun(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(200, LAYER + b"x")

    with pytest.raises(DigestMismatch), repository.open_blob(BLOB):
        pytest.fail("it was begun")


def chunked(content: bytes) -> Script:
    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        call.send(f"{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n")

    return script


@pytest.mark.parametrize("content", [LAYER + b"x", LAYER[:-1]], ids=["more", "fewer"])
def test_more_or_fewer_bytes_than_promised_are_found_out(
    repository: RemoteRepository, wire: Wire, content: bytes
) -> None:
    wire.script = chunked(content)

    with pytest.raises(DigestMismatch):
        read(repository)


def test_a_cut_download_is_unreachable(repository: RemoteRepository, wire: Wire) -> None:
    def cut(call: Call) -> None:
        call.answer(200, LAYER[:1000], {"Content-Length": str(len(LAYER))})
        call.hang_up()

    wire.script = cut

    with pytest.raises(Unreachable) as caught:
        read(repository)

    assert caught.value.what == f"team/app@{BLOB.digest}"


# Uploads.


@pytest.mark.parametrize("location", ["{path}abc?_state=a%2Fb%3D", "{url}{path}abc?_state=a%2Fb%3D"])
def test_an_upload_is_one_put_to_where_the_registry_says(
    repository: RemoteRepository, wire: Wire, location: str
) -> None:
    where = location.format(path=UPLOADS, url=wire.url)
    wire.script = in_turn(answering(202, b"", {"Location": where}), answering(201))

    session = repository.start_upload(BLOB)
    assert session is not None
    repository.finish_upload(session, BLOB, [LAYER[:7], memoryview(LAYER)[7:]])

    post, put = wire.calls
    assert (post.method, post.target, post.headers["content-length"]) == ("POST", UPLOADS, "0")
    assert put.target == f"{UPLOADS}abc?_state=a%2Fb%3D&digest={BLOB.digest}"
    assert put.headers["content-type"] == "application/octet-stream"
    assert put.headers["content-length"] == str(BLOB.size)
    assert put.body() == LAYER


def test_a_mount_that_is_taken_sends_nothing(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(201)

    assert repository.start_upload(BLOB, mount_from="other/app") is None
    assert wire.asked() == [("POST", f"{UPLOADS}?mount={BLOB.digest}&from=other/app")]


def test_a_mount_that_is_not_taken_goes_on_with_its_session(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(202, b"", {"Location": f"{UPLOADS}abc"})

    assert repository.start_upload(BLOB, mount_from="other/app") == Upload(f"{wire.url}{UPLOADS}abc")
    assert len(wire.calls) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_mount_that_is_refused_becomes_a_plain_upload(
    repository: RemoteRepository, wire: Wire, status: int
) -> None:
    """Harbor answers 401 for an unknown project, Docker Hub 400 or 401 for a foreign repository."""
    refused = refusing(status, "DENIED", WWW_Authenticate='Basic realm="x"')
    wire.script = in_turn(refused, answering(202, b"", {"Location": f"{UPLOADS}abc"}))

    assert repository.start_upload(BLOB, mount_from="other/app") is not None
    assert wire.calls[-1].target == UPLOADS


def test_a_mount_at_a_registry_that_is_unwell_is_not_tried_in_another_way(
    repository: RemoteRepository, wire: Wire
) -> None:
    wire.script = refusing(500)

    with pytest.raises(Transient):
        repository.start_upload(BLOB, mount_from="other/app")
    assert len(wire.calls) == 1


@pytest.mark.parametrize("code", ["DIGEST_INVALID", "SIZE_INVALID"])
def test_bytes_that_the_registry_finds_wrong_are_a_digest_mismatch(
    repository: RemoteRepository, wire: Wire, code: str
) -> None:
    wire.script = refusing(400, code, "provided digest did not match uploaded content")

    with pytest.raises(DigestMismatch):
        repository.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), BLOB, [LAYER])


def test_a_forgotten_session_is_worth_another_attempt(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = refusing(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")

    with pytest.raises(Transient):
        repository.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), BLOB, [LAYER])


@pytest.mark.parametrize("status", [204, 202, 400, 403, 404, 405])
def test_cancelling_is_fine_with_whatever_the_registry_makes_of_it(
    repository: RemoteRepository, wire: Wire, status: int
) -> None:
    wire.script = answering(status)

    repository.cancel_upload(Upload(f"{wire.url}{UPLOADS}abc?_state=x"))

    assert wire.asked() == [("DELETE", f"{UPLOADS}abc?_state=x")]


def test_a_broken_source_is_not_the_targets_fault(
    repository: RemoteRepository, wire: Wire, open_at: Opener
) -> None:
    """The chunks are consumed inside the target's upload."""

    def cut(call: Call) -> None:
        call.answer(200, LAYER[:1000], {"Content-Length": str(len(LAYER))})
        call.hang_up()

    wire.script = answering(201)
    with Wire(cut) as source, open_at(source.host).open_blob(BLOB) as blocks:
        with pytest.raises(Unreachable) as caught:
            repository.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), BLOB, blocks)

        assert caught.value.end == source.host


def test_a_cut_upload_is_blamed_on_the_target(
    repository: RemoteRepository, wire: Wire, open_at: Opener
) -> None:
    wire.script = lambda call: call.hang_up(reset=True)
    large = bytes(64 * BLOCK)
    with Wire(answering(200, large)) as source, open_at(source.host).open_blob(described(large)) as blocks:
        with pytest.raises(Unreachable) as caught:
            repository.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), described(large), blocks)

        assert caught.value.end == wire.host


@pytest.mark.parametrize("error", [KeyError("a bug"), httpx.ReadError("somebody else's"), OSError("a disk")])
def test_whatever_the_chunks_raise_comes_out_unchanged(
    repository: RemoteRepository, wire: Wire, error: Exception
) -> None:
    def chunks() -> Iterator[bytes]:
        yield LAYER[:1000]
        raise error

    wire.script = answering(201)
    with pytest.raises(type(error)) as caught:
        repository.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), BLOB, chunks())

    assert caught.value is error


@pytest.mark.parametrize("content", [LAYER[:-1], LAYER + b"x"], ids=["fewer", "more"])
def test_a_blob_that_is_given_with_another_size_is_never_completed(
    repository: RemoteRepository, wire: Wire, content: bytes
) -> None:
    wire.script = lambda call: call.answer(201) if len(call.body()) == BLOB.size else call.hang_up()

    with pytest.raises(DigestMismatch):
        repository.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), BLOB, [content])


def test_an_upload_whose_token_was_refused_is_to_be_started_again(open_at: Opener, wire: Wire) -> None:
    refused = refusing(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
    wire.script = in_turn(refused)

    with pytest.raises(Transient, match="token"):
        open_at(wire.host, someone=True).finish_upload(Upload(f"{wire.url}{UPLOADS}a"), BLOB, iter([LAYER]))
    assert len(wire.calls) == 1


def test_reads_uploads_and_tokens_never_wait_for_each_others_connections(open_at: Opener, wire: Wire) -> None:
    """With one pool for all, as many copies as it has connections would wait for ever."""
    realm = f'Bearer realm="{wire.url}/token",service="registry"'

    def with_token(then: Script) -> Script:
        challenge = answering(401, b"", {"WWW-Authenticate": realm})
        return lambda call: (then if "authorization" in call.headers else challenge)(call)

    wire.script = routed(
        {
            ("GET", HELD): answering(200, LAYER),
            ("GET", "/token"): answering(200, '{"token": "abc"}'),
            ("POST", UPLOADS): with_token(answering(202, b"", {"Location": f"{UPLOADS}abc"})),
            ("PUT", f"{UPLOADS}abc"): with_token(answering(201)),
        }
    )
    impatient = Timeouts(read_s=2.0, commit_s=0.5)
    repository = open_at(wire.host, max_connections=1, timeouts=impatient)

    with repository.open_blob(BLOB) as blocks:
        session = repository.start_upload(BLOB)
        assert session is not None
        repository.finish_upload(session, BLOB, blocks)

    assert wire.calls[-1].body() == LAYER
