"""The client against scripted registries: errors, manifests, tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from registry.client import PAGE_TAGS, RemoteRepository
from registry.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, digest_of
from registry.errors import (
    Denied,
    DigestMismatch,
    NotFound,
    Refused,
    RegistryError,
    TagImmutable,
    Throttled,
    Transient,
    Unauthorized,
    Unreachable,
    Unsupported,
)
from registry.reference import MalformedReference
from registry.repository import Upload
from tests.support.opening import Opener
from tests.support.scripted import (
    APP,
    BLOB,
    LAYER,
    MANIFEST,
    MANIFEST_HEADERS,
    manifest_of,
    read,
    refusing,
)
from tests.support.wire import Script, Wire, answering, in_turn, routed


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "NAME_INVALID", Refused),
        (401, "UNAUTHORIZED", Unauthorized),
        (403, "DENIED", Denied),
        (404, "MANIFEST_UNKNOWN", NotFound),
        (405, "UNSUPPORTED", Refused),
        (413, "SIZE_LIMIT", Refused),
        (415, "MANIFEST_INVALID", Refused),
        (422, "TAG_IMMUTABLE", TagImmutable),
        (429, "TOOMANYREQUESTS", Throttled),
        (403, "TOOMANYREQUESTS", Throttled),
        (408, "", Transient),
        (500, "UNKNOWN", Transient),
        (501, "UNSUPPORTED", Refused),
        (503, "", Transient),
    ],
)
def test_every_refusal_says_who_what_and_why(
    repository: RemoteRepository, wire: Wire, status: int, code: str, kind: type[RegistryError]
) -> None:
    challenge = {"WWW_Authenticate": 'Basic realm="x"'} if status == 401 else {}
    wire.script = refusing(status, code, "because token=verysecret", **challenge)

    with pytest.raises(kind) as caught:
        repository.manifest("1.0")

    assert type(caught.value) is kind
    assert caught.value.end == wire.host
    assert caught.value.what == "team/app:1.0" if status != 401 else "team/app"
    assert caught.value.status == status
    assert "verysecret" not in str(caught.value)
    if status != 401:
        assert caught.value.code == (code or None)
        assert "because" in caught.value.reason


def test_an_error_in_prose_or_html_is_not_taken_for_a_code(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(502, "<html>\nBad gateway\n</html>")
    with pytest.raises(Transient) as caught:
        repository.manifest("1.0")
    assert "html" not in str(caught.value)

    wire.script = answering(429, "Too Many Requests (HAP429).\n", {"Retry-After": "60"})
    with pytest.raises(Throttled, match="Too Many Requests") as throttled:
        repository.manifest("1.0")
    assert throttled.value.retry_after_s == 60


def test_retry_after_may_be_a_date(repository: RemoteRepository, wire: Wire) -> None:
    moment = datetime.now(UTC) + timedelta(hours=3)
    wire.script = refusing(429, "TOOMANYREQUESTS", Retry_After=format_datetime(moment, usegmt=True))

    with pytest.raises(Throttled) as caught:
        repository.manifest("1.0")

    assert caught.value.retry_after_s == pytest.approx(3 * 3600, abs=5)


def test_nobody_listening_is_unreachable(open_at: Opener) -> None:
    with Wire(answering()) as gone:
        host = gone.host

    with pytest.raises(Unreachable) as caught:
        open_at(host).resolve("1.0")

    assert caught.value.end == host


@pytest.mark.parametrize("name", ["../x", "a b", "1.0?x=y", "sha256:short", ""])
def test_nothing_malformed_reaches_a_url(repository: RemoteRepository, wire: Wire, name: str) -> None:
    blob = Upload(wire.url)
    for ask in (repository.resolve, repository.manifest, repository.delete_manifest, repository.blob_size):
        with pytest.raises(MalformedReference):
            ask(name)
    with pytest.raises(MalformedReference):
        repository.start_upload(BLOB, mount_from=f"{name}/../../x")
    with pytest.raises(MalformedReference):
        repository.referrers(name)

    assert wire.calls == []
    assert "127" not in repr(blob)


def test_a_repository_outside_the_grammar_cannot_be_opened(open_at: Opener, wire: Wire) -> None:
    for name in ("../etc", "UPPER", "a//b", "a/b?x"):
        with pytest.raises(MalformedReference):
            open_at(wire.host, name)


# Manifests.


def test_a_tag_is_resolved_by_one_head(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(200, MANIFEST.content, MANIFEST_HEADERS)

    assert repository.resolve("1.0") == Descriptor(OCI_MANIFEST, MANIFEST.digest, MANIFEST.size)
    assert wire.asked() == [("HEAD", f"{APP}/manifests/1.0")]
    accept = wire.calls[0].headers["accept"]
    assert all(kind in accept for kind in (OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, "manifest.list.v2"))
    assert wire.calls[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "head",
    [
        answering(200, MANIFEST.content, {"Content-Type": OCI_MANIFEST}),
        answering(200, MANIFEST.content, {**MANIFEST_HEADERS, "Content-Type": "text/plain"}),
        answering(405),
    ],
    ids=["no-digest", "no-type", "no-head"],
)
def test_a_head_that_does_not_say_it_all_is_followed_by_a_get(
    repository: RemoteRepository, wire: Wire, head: Script
) -> None:
    path = f"{APP}/manifests/1.0"
    wire.script = routed(
        {
            ("HEAD", path): head,
            ("GET", path): answering(200, MANIFEST.content, {"Content-Type": OCI_MANIFEST}),
        }
    )

    assert repository.resolve("1.0").digest == MANIFEST.digest


def test_a_manifest_keeps_its_bytes(repository: RemoteRepository, wire: Wire) -> None:
    spaced = MANIFEST.content.replace(b"{", b"{ \n\t", 1)
    headers = {"Content-Type": f"{OCI_MANIFEST}; charset=utf-8", "Docker-Content-Digest": digest_of(spaced)}
    wire.script = answering(200, spaced, headers)

    assert repository.manifest("1.0").content == spaced


@pytest.mark.parametrize("asked", ["1.0", digest_of(b"something else")])
def test_a_manifest_that_is_not_of_its_digest_is_refused(
    repository: RemoteRepository, wire: Wire, asked: str
) -> None:
    wire.script = answering(
        200, MANIFEST.content, {**MANIFEST_HEADERS, "Docker-Content-Digest": digest_of(b"x")}
    )

    with pytest.raises(DigestMismatch):
        repository.manifest(asked)


def test_a_head_that_names_another_digest_than_asked_is_refused(
    repository: RemoteRepository, wire: Wire
) -> None:
    wire.script = answering(200, MANIFEST.content, MANIFEST_HEADERS)

    with pytest.raises(DigestMismatch):
        repository.resolve(digest_of(b"another"))


def test_a_manifest_by_sha512_is_checked_by_sha512(repository: RemoteRepository, wire: Wire) -> None:
    digest = digest_of(MANIFEST.content, "sha512")
    wire.script = answering(200, MANIFEST.content, MANIFEST_HEADERS)

    assert repository.manifest(digest).digest == digest


def test_schema_1_is_unsupported_and_says_what_to_do(repository: RemoteRepository, wire: Wire) -> None:
    schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    wire.script = answering(200, b'{"schemaVersion": 1}', {"Content-Type": schema_1})

    for ask in (repository.resolve, repository.manifest):
        with pytest.raises(Unsupported, match="schema 1: rebuild"):
            ask("1.0")


def test_a_manifest_is_put_byte_for_byte(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(201, b"", {"Docker-Content-Digest": MANIFEST.digest})

    assert repository.put_manifest("1.0", MANIFEST)

    call = wire.calls[0]
    assert (call.method, call.target) == ("PUT", f"{APP}/manifests/1.0")
    assert call.headers["content-type"] == OCI_MANIFEST
    assert call.body() == MANIFEST.content


@pytest.mark.parametrize(("headers", "indexed"), [({}, False), ({"OCI-Subject": MANIFEST.digest}, True)])
def test_a_registry_says_whether_it_indexes_a_subject(
    repository: RemoteRepository, wire: Wire, headers: dict[str, str], *, indexed: bool
) -> None:
    wire.script = answering(202, b"", headers)
    signature = manifest_of(subject=MANIFEST.descriptor.document())

    assert repository.put_manifest(signature.digest, signature) is indexed


def test_a_registry_that_stored_another_digest_is_found_out(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = answering(201, b"", {"Docker-Content-Digest": digest_of(b"re-serialised")})

    with pytest.raises(DigestMismatch):
        repository.put_manifest("1.0", MANIFEST)


def test_a_manifest_is_never_put_under_another_digest(repository: RemoteRepository, wire: Wire) -> None:
    with pytest.raises(DigestMismatch):
        repository.put_manifest(digest_of(b"x"), MANIFEST)
    assert wire.calls == []


def test_a_manifest_whose_blobs_are_missing_is_refused_by_code(
    repository: RemoteRepository, wire: Wire
) -> None:
    wire.script = refusing(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")

    with pytest.raises(Refused) as caught:
        repository.put_manifest("1.0", MANIFEST)

    assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"


# Tags.


def tags_page(*tags: str, link: str = "") -> Script:
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return answering(200, json.dumps({"name": "team/app", "tags": list(tags)}), headers)


def test_tags_come_page_by_page_as_links_lead(repository: RemoteRepository, wire: Wire) -> None:
    first = tags_page("a", "b", link=f"{APP}/tags/list?n=2&last=b")
    second = tags_page("c", "d", link=f"{wire.url}{APP}/tags/list?n=2&last=d")
    wire.script = in_turn(first, second, tags_page("e"))

    assert list(repository.tags()) == [["a", "b"], ["c", "d"], ["e"]]
    assert [call.query for call in wire.calls] == [f"n={PAGE_TAGS}", "n=2&last=b", "n=2&last=d"]


def test_tags_go_on_after_a_full_page_without_a_link(repository: RemoteRepository, wire: Wire) -> None:
    full = [f"{number:04}" for number in range(PAGE_TAGS)]
    wire.script = in_turn(tags_page(*full), tags_page("last"))

    assert list(repository.tags()) == [full, ["last"]]
    assert wire.calls[1].query == f"n={PAGE_TAGS}&last=0999"


def test_a_registry_that_ignores_last_does_not_repeat_itself(
    repository: RemoteRepository, wire: Wire
) -> None:
    full = [f"{number:04}" for number in range(PAGE_TAGS)]
    wire.script = tags_page(*full)

    assert list(repository.tags()) == [full]


def test_a_registry_that_sends_every_tag_at_once_is_asked_once(
    repository: RemoteRepository, wire: Wire
) -> None:
    everything = [f"{number:05}" for number in range(3 * PAGE_TAGS)]
    wire.script = tags_page(*everything)

    assert list(repository.tags()) == [everything]
    assert len(wire.calls) == 1


def test_tags_can_start_in_the_middle(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = tags_page("c")

    assert list(repository.tags("b")) == [["c"]]
    assert wire.calls[0].query == f"n={PAGE_TAGS}&last=b"


@pytest.mark.parametrize("tags", ["null", "[]"])
def test_a_repository_may_have_no_tags(repository: RemoteRepository, wire: Wire, tags: str) -> None:
    wire.script = answering(200, f'{{"name": "team/app", "tags": {tags}}}')

    assert list(repository.tags()) == []


def test_every_answer_is_observed(open_at: Opener, wire: Wire) -> None:
    seen: list[tuple[str, str, int]] = []
    observer: Callable[[str, str, int], None] = lambda *one: seen.append(one)  # noqa: E731
    repository = open_at(wire.host, observer=observer)
    wire.script = in_turn(
        answering(307, b"", {"Location": "/elsewhere"}), answering(200, LAYER), refusing(404), tags_page("a")
    )

    read(repository)
    with pytest.raises(NotFound):
        repository.resolve("1.0")
    list(repository.tags())

    assert seen == [
        ("GET", "blob", 307),
        ("GET", "blob", 200),
        ("HEAD", "manifest", 404),
        ("GET", "tags", 200),
    ]
