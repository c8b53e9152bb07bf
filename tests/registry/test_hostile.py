"""Registries that lie: one section per rule of the client (design, section 7; 1 and 2 are in auth)."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.client import MAX_PAGE_BYTES, RemoteRepository
from registry.descriptor import DOCKER_LAYER, OCI_INDEX, OCI_MANIFEST, Descriptor
from registry.errors import DigestMismatch, RegistryError, Transient, Unsafe, Unsupported
from registry.manifest import MAX_MANIFEST_BYTES
from registry.repository import Upload
from tests.support.certificates import make_certificates
from tests.support.opening import Opener
from tests.support.scripted import APP, BLOB, HELD, LAYER, MANIFEST, UPLOADS, read, refusing
from tests.support.wire import Call, Script, Wire, answering, in_turn, routed


@pytest.fixture
def elsewhere() -> Iterator[Wire]:
    """Another server; on this machine, so that a loopback registry may redirect to it."""
    with Wire(answering(200, LAYER)) as server:
        yield server


def redirecting(location: str, status: int = 307) -> Script:
    return answering(status, b"", {"Location": location})


def only_with_credentials(then: Script) -> Script:
    """A registry that wants Basic authentication before it does ``then``."""
    challenge = answering(401, b"", {"WWW-Authenticate": 'Basic realm="registry"'})
    return lambda call: (then if "authorization" in call.headers else challenge)(call)


# Rule 3: redirects and upload locations.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_are_left_behind_when_a_redirect_leaves_the_host(
    open_at: Opener, wire: Wire, elsewhere: Wire, status: int
) -> None:
    wire.script = only_with_credentials(redirecting(f"{elsewhere.url}/signed?sig=1", status))

    assert read(open_at(wire.host, someone=True)) == LAYER

    assert "authorization" in wire.calls[-1].headers
    assert [call.target for call in elsewhere.calls] == ["/signed?sig=1"]
    assert "authorization" not in elsewhere.calls[0].headers
    assert "cookie" not in elsewhere.calls[0].headers


def test_credentials_stay_when_a_redirect_stays(open_at: Opener, wire: Wire) -> None:
    content = routed({("GET", HELD): redirecting("/storage"), ("GET", "/storage"): answering(200, LAYER)})
    wire.script = only_with_credentials(content)

    assert read(open_at(wire.host, someone=True)) == LAYER


def test_credentials_do_not_come_back_by_a_second_redirect(
    open_at: Opener, wire: Wire, elsewhere: Wire
) -> None:
    elsewhere.script = redirecting(f"{wire.url}/private")
    wire.script = only_with_credentials(redirecting(elsewhere.url))

    with pytest.raises(RegistryError):
        read(open_at(wire.host, someone=True))

    assert wire.calls[-1].target == "/private"
    assert "authorization" not in wire.calls[-1].headers


def test_a_challenge_from_elsewhere_is_not_answered(open_at: Opener, wire: Wire, elsewhere: Wire) -> None:
    elsewhere.script = answering(401, b"", {"WWW-Authenticate": 'Basic realm="give me"'})
    wire.script = redirecting(elsewhere.url)

    with pytest.raises(RegistryError):
        read(open_at(wire.host, someone=True))

    assert len(elsewhere.calls) == 1
    assert "authorization" not in elsewhere.calls[0].headers


def test_redirects_end_after_five(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = redirecting(HELD)

    with pytest.raises(Unsafe, match="redirects"):
        read(repository)

    assert len(wire.calls) == 6


def test_five_redirects_are_fine(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = in_turn(*[redirecting(HELD)] * 5, answering(200, LAYER))

    assert read(repository) == LAYER


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://[",
        "http://a%00b/",
        "\x7f:x",
    ],
)
def test_a_redirect_to_what_is_no_place_for_us_is_not_followed(
    repository: RemoteRepository, wire: Wire, location: str
) -> None:
    wire.script = redirecting(location)

    with pytest.raises(Unsafe) as caught:
        read(repository)

    assert "secret" not in str(caught.value)
    assert len(wire.calls) == 1


def test_a_redirect_from_https_to_http_is_not_followed(
    open_at: Opener, elsewhere: Wire, tmp_path: Path
) -> None:
    made = make_certificates(tmp_path)
    with Wire(redirecting(f"{elsewhere.url}/x"), made.server_context()) as wire:
        repository = open_at(wire.host, plain_http=False, ca_file=str(made.authority))
        with pytest.raises(Unsafe, match="from https to http"):
            read(repository)

        assert len(wire.calls) == 1
    assert elsewhere.connections == 0


@pytest.mark.parametrize("ask", ["tags", "upload", "put", "delete"])
def test_only_reading_manifests_and_blobs_follows_redirects(
    repository: RemoteRepository, wire: Wire, elsewhere: Wire, ask: str
) -> None:
    wire.script = redirecting(elsewhere.url)
    asks: dict[str, Callable[[], Any]] = {
        "tags": lambda: list(repository.tags()),
        "upload": lambda: repository.start_upload(BLOB),
        "put": lambda: repository.put_manifest("1.0", MANIFEST),
        "delete": lambda: repository.delete_manifest(MANIFEST.digest),
    }

    with pytest.raises(RegistryError):
        asks[ask]()

    assert elsewhere.calls == []


def test_an_upload_is_not_sent_to_another_host(open_at: Opener, wire: Wire, elsewhere: Wire) -> None:
    wire.script = only_with_credentials(answering(202, b"", {"Location": f"{elsewhere.url}/take?sig=abc"}))

    with pytest.raises(Unsafe, match="upload_hosts") as caught:
        open_at(wire.host, someone=True).start_upload(BLOB)

    assert "sig" not in str(caught.value)
    assert elsewhere.calls == []


@pytest.mark.parametrize("with_port", [True, False])
def test_an_upload_goes_to_a_configured_host_without_credentials(
    open_at: Opener, wire: Wire, elsewhere: Wire, *, with_port: bool
) -> None:
    allowed = elsewhere.host if with_port else "127.0.0.1"
    elsewhere.script = answering(201)
    wire.script = only_with_credentials(answering(202, b"", {"Location": f"{elsewhere.url}/take?sig=abc"}))
    repository = open_at(wire.host, someone=True, upload_hosts=(allowed,))

    session = repository.start_upload(BLOB)
    assert session is not None
    repository.finish_upload(session, BLOB, [LAYER])

    assert elsewhere.calls[0].target == f"/take?sig=abc&digest={BLOB.digest}"
    assert "authorization" not in elsewhere.calls[0].headers
    assert "sig" not in repr(session)


@pytest.mark.parametrize("use", ["finish_upload", "cancel_upload"])
def test_a_session_from_elsewhere_is_checked_again_when_it_is_used(
    repository: RemoteRepository, elsewhere: Wire, use: str
) -> None:
    """A session may have come through somebody else's hands."""
    session = Upload(f"{elsewhere.url}/take")

    with pytest.raises(Unsafe):
        repository.finish_upload(session, BLOB, [LAYER]) if use == "finish_upload" else (
            repository.cancel_upload(session)
        )

    assert elsewhere.calls == []


# Rule 4: addresses.


@pytest.fixture
def lying_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cdn.example`` is at the address of this machine."""
    real = socket.getaddrinfo

    def lie(host: str, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "cdn.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lie)


@pytest.mark.usefixtures("lying_names")
def test_a_redirect_to_a_name_that_lies_about_its_address_is_not_followed(
    repository: RemoteRepository, wire: Wire, elsewhere: Wire
) -> None:
    wire.script = redirecting(f"http://cdn.example:{elsewhere.port}/metadata")

    with pytest.raises(Unsafe, match=r"cdn\.example is at no public address"):
        read(repository)

    assert elsewhere.connections == 0


@pytest.mark.usefixtures("lying_names")
def test_a_name_that_is_configured_may_be_anywhere(open_at: Opener, wire: Wire, elsewhere: Wire) -> None:
    wire.script = redirecting(f"http://cdn.example:{elsewhere.port}/layer")

    assert read(open_at(wire.host, upload_hosts=("cdn.example",))) == LAYER


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),
        *("[::ffff:10.0.0.1]", "[fe80::1]", "[fd00::1]", "[64:ff9b::a00:1]", "[2002:a00:1::]"),
    ],
)
def test_a_redirect_into_the_network_is_not_followed(
    repository: RemoteRepository, wire: Wire, address: str
) -> None:
    wire.script = redirecting(f"http://{address}/latest/meta-data")

    with pytest.raises(Unsafe, match="public address"):
        repository.manifest("1.0")


# Rule 5: foreign layers.


def test_the_urls_of_a_foreign_layer_are_never_asked(
    repository: RemoteRepository, wire: Wire, elsewhere: Wire
) -> None:
    foreign = Descriptor(DOCKER_LAYER, BLOB.digest, BLOB.size, urls=(f"{elsewhere.url}/layer",))
    wire.script = refusing(404, "BLOB_UNKNOWN")

    with pytest.raises(RegistryError):
        read(repository, foreign)

    assert elsewhere.calls == []


def test_an_endless_blob_is_left_after_its_promised_size(repository: RemoteRepository, wire: Wire) -> None:
    def endless(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            call.send(b"10000\r\n" + bytes(65536) + b"\r\n")

    wire.script = endless

    with pytest.raises(DigestMismatch, match="more than"):
        read(repository)


# Rule 6: caps.


def test_a_manifest_above_its_cap_is_not_read(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(200, bytes(MAX_MANIFEST_BYTES + 1), {"Content-Type": OCI_MANIFEST})

    with pytest.raises(Unsupported, match="4194304"):
        repository.manifest("1.0")


def test_a_manifest_of_the_cap_is_read(repository: RemoteRepository, wire: Wire) -> None:
    padded = MANIFEST.content + b" " * (MAX_MANIFEST_BYTES - MANIFEST.size)
    wire.script = answering(200, padded, {"Content-Type": OCI_MANIFEST})

    assert repository.manifest("1.0").size == MAX_MANIFEST_BYTES


def test_an_endless_error_is_cut_off(repository: RemoteRepository, wire: Wire) -> None:
    sent = 0

    def endless(call: Call) -> None:
        nonlocal sent
        call.send(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            call.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            sent += 4096

    wire.script = endless

    with pytest.raises(Transient) as caught:
        repository.manifest("1.0")

    assert len(str(caught.value)) < 1000


def test_a_page_of_tags_above_its_cap_is_not_read(
    repository: RemoteRepository, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.client.MAX_PAGE_BYTES", 10_000)
    wire.script = answering(200, json.dumps({"tags": ["x" * 100] * 200}))

    with pytest.raises(Unsafe, match="10000"):
        list(repository.tags())
    assert MAX_PAGE_BYTES > 10_000


@pytest.mark.parametrize("what", ["tags", "referrers"])
def test_pages_that_lead_in_a_circle_end(repository: RemoteRepository, wire: Wire, what: str) -> None:
    def circle(call: Call) -> None:
        page = "2" if call.query.endswith("page=1") else "1"
        body = {"tags": [f"tag-{page}"], "manifests": []}
        headers = {"Link": f'<{call.path}?page={page}>; rel="next"', "Content-Type": OCI_INDEX}
        call.answer(200, json.dumps(body), headers)

    wire.script = circle

    with pytest.raises(Unsafe, match="no end"):
        list(repository.tags()) if what == "tags" else repository.referrers(MANIFEST.digest)
    assert len(wire.calls) <= 4


def test_a_list_that_goes_on_for_ever_ends(
    repository: RemoteRepository, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.client.MAX_TAGS", 50)

    def endless(call: Call) -> None:
        number = len(wire.calls)
        headers = {"Link": f'<{call.path}?page={number}>; rel="next"'}
        call.answer(200, json.dumps({"tags": [f"tag-{number}"]}), headers)

    wire.script = endless

    with pytest.raises(Unsafe, match="more than 50 tags"):
        list(repository.tags())


def test_a_next_page_on_another_host_is_not_asked_for(open_at: Opener, wire: Wire, elsewhere: Wire) -> None:
    link = {"Link": f'<{elsewhere.url}{APP}/tags/list?last=a>; rel="next"'}
    wire.script = only_with_credentials(answering(200, '{"tags": ["a"]}', link))

    with pytest.raises(Unsafe, match="another host"):
        list(open_at(wire.host, someone=True).tags())

    assert elsewhere.connections == 0


# Rule 7: grammar.


@pytest.mark.parametrize("tag", ["../../etc/passwd", "a b", "x" * 129, "", "a\nb", "1.0?x=1"])
def test_a_listed_tag_outside_the_grammar_is_refused(
    repository: RemoteRepository, wire: Wire, tag: str
) -> None:
    wire.script = answering(200, json.dumps({"tags": ["good", tag]}))

    with pytest.raises(Unsafe, match="not a tag"):
        list(repository.tags())


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha1:" + "a" * 40, "sha256:" + "A" * 64, "nonsense"])
def test_a_named_digest_outside_the_grammar_is_not_used(
    repository: RemoteRepository, wire: Wire, digest: str
) -> None:
    headers = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest}
    wire.script = answering(200, MANIFEST.content, headers)

    assert repository.resolve("1.0").digest == MANIFEST.digest
    assert repository.manifest("1.0").digest == MANIFEST.digest


def test_a_listed_referrer_outside_the_grammar_is_not_used(repository: RemoteRepository, wire: Wire) -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": "sha256:../../x", "size": 1}
    page = answering(200, json.dumps({"manifests": [entry]}), {"Content-Type": OCI_INDEX})
    wire.script = routed({("GET", f"{APP}/referrers/{MANIFEST.digest}"): page})

    assert repository.referrers(MANIFEST.digest) == []


# Rule 8: one meaning.


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"mediaType": OCI_INDEX, "manifests": []}, OCI_MANIFEST),
        ({"mediaType": OCI_INDEX, "manifests": [], "layers": []}, OCI_INDEX),
        ({"mediaType": OCI_MANIFEST, "manifests": [], "config": {}}, OCI_MANIFEST),
        ({"manifests": []}, OCI_MANIFEST),
        ({"schemaVersion": 1, "fsLayers": []}, OCI_MANIFEST),
    ],
    ids=["type", "both-index", "both-image", "body", "schema-1"],
)
def test_a_manifest_with_two_meanings_is_refused(
    repository: RemoteRepository, wire: Wire, document: dict[str, Any], content_type: str
) -> None:
    wire.script = answering(200, json.dumps(document), {"Content-Type": content_type})

    with pytest.raises(Unsupported):
        repository.manifest("1.0")


def test_nothing_is_ever_inflated(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(200, LAYER, {"Content-Encoding": "gzip"})

    assert read(repository) == LAYER


def test_a_compressed_error_is_not_inflated(repository: RemoteRepository, wire: Wire) -> None:
    bomb = gzip.compress(b'{"errors": [{"code": "BOMB", "message": "' + b"x" * 10_000_000 + b'"}]}')
    wire.script = answering(500, bomb, {"Content-Encoding": "gzip"})

    with pytest.raises(Transient) as caught:
        repository.manifest("1.0")

    assert caught.value.code is None


def test_an_upload_without_a_place_to_go_is_refused(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = routed({("POST", UPLOADS): answering(202)})

    with pytest.raises(RegistryError, match="Location"):
        repository.start_upload(BLOB)
