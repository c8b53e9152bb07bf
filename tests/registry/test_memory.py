"""The in-memory registry against the distribution-spec, by hand and by skopeo."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry.descriptor import OCI_INDEX, OCI_MANIFEST, digest_of
from registry.images import Image, build_artifact, build_image, build_index, random_layer
from registry.manifest import MAX_MANIFEST_BYTES
from registry.memory import Cut, ErrorReply, Logged, MemoryRegistry, PullLimits
from tests.support.skopeo import copy, inspect, needs_skopeo, skopeo

REPOSITORY = "team/app"
BASE = f"v2/{REPOSITORY}"
DATA = b"0123456789"
DIGEST = digest_of(DATA)
IMAGE = build_image({"etc/motd": b"welcome\n"})


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as running:
        yield running


@pytest.fixture
def http(registry: MemoryRegistry) -> Iterator[httpx.Client]:
    with client(registry) as opened:
        yield opened


def client(registry: MemoryRegistry) -> httpx.Client:
    # Without certificates to load a client is there at once.
    return httpx.Client(base_url=f"http://{registry.host}", timeout=10, verify=False)


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and error code."""
    return answer.status_code, answer.json()["errors"][0]["code"]


def opened(http: httpx.Client) -> str:
    answer = http.post(f"{BASE}/blobs/uploads/")
    assert answer.status_code == 202
    return answer.headers["Location"]


def put(http: httpx.Client, image: Image, tag: str) -> httpx.Response:
    kind = {"Content-Type": image.manifest.media_type}
    return http.put(f"{BASE}/manifests/{tag}", content=image.manifest.content, headers=kind)


def test_a_blob_goes_up_in_one_put_and_comes_down_whole_or_in_part(http: httpx.Client) -> None:
    answer = http.put(opened(http), params={"digest": DIGEST}, content=DATA)
    assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, DIGEST)

    path = answer.headers["Location"]
    assert http.get(path).content == DATA
    assert http.head(path).headers["Content-Length"] == "10"
    part = http.get(path, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["Content-Range"] == "bytes 2-4/10"
    assert http.get(path, headers={"Range": "bytes=7-"}).content == b"789"
    assert http.get(path, headers={"Range": "bytes=-2"}).content == b"89"
    assert code(http.get(path, headers={"Range": "bytes=10-"})) == (416, "RANGE_INVALID")


def test_an_upload_in_pieces_must_be_in_order(http: httpx.Client) -> None:
    session = opened(http)

    first = http.patch(session, content=DATA[:4], headers={"Content-Range": "0-3"})
    gap = http.patch(session, content=DATA[6:], headers={"Content-Range": "6-9"})
    status = http.get(session)
    second = http.patch(first.headers["Location"], content=DATA[4:], headers={"Content-Range": "4-9"})
    end = http.put(second.headers["Location"], params={"digest": DIGEST})

    assert (first.status_code, first.headers["Range"]) == (202, "0-3")
    assert (code(gap), gap.headers["Range"]) == ((416, "BLOB_UPLOAD_INVALID"), "0-3")
    assert (status.status_code, status.headers["Range"]) == (204, "0-3")
    assert second.headers["Range"] == "0-9"
    assert end.status_code == 201
    assert http.get(end.headers["Location"]).content == DATA


def test_a_piece_without_range_and_without_length_is_appended(http: httpx.Client) -> None:
    session = opened(http)

    assert http.patch(session, content=iter([DATA[:3], DATA[3:4]])).headers["Range"] == "0-3"
    assert http.put(session, params={"digest": DIGEST}, content=iter([DATA[4:]])).status_code == 201


def test_a_blob_may_come_in_a_single_post_and_by_sha512(http: httpx.Client, registry: MemoryRegistry) -> None:
    for digest in (DIGEST, digest_of(DATA, "sha512")):
        answer = http.post(f"{BASE}/blobs/uploads/", params={"digest": digest}, content=DATA)
        assert answer.status_code == 201
        assert http.get(f"{BASE}/blobs/{digest}").content == DATA
    assert registry.open_sessions == 0


def test_bytes_that_are_not_their_digest_are_refused(http: httpx.Client, registry: MemoryRegistry) -> None:
    session = opened(http)

    assert code(http.put(session, params={"digest": DIGEST}, content=b"other")) == (400, "DIGEST_INVALID")
    assert code(http.put(session, params={"digest": "sha256:1"}, content=b"")) == (400, "DIGEST_INVALID")
    assert http.head(f"{BASE}/blobs/{DIGEST}").status_code == 404
    assert http.delete(session).status_code == 204
    assert code(http.get(session)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert registry.open_sessions == 0


def test_a_big_blob_is_kept_in_a_file_until_the_registry_closes() -> None:
    layer = random_layer(3_000_000)
    with MemoryRegistry(spool_bytes=1_000_000) as registry, client(registry) as http:
        answer = http.put(opened(http), params={"digest": layer.descriptor.digest}, content=layer.open())
        assert answer.status_code == 201
        folder = registry._store.spool_folder()
        assert [file.stat().st_size for file in folder.iterdir()] == [layer.descriptor.size]
        part = http.get(answer.headers["Location"], headers={"Range": "bytes=1000000-1999999"})
        assert part.content == b"".join(layer.open())[1_000_000:2_000_000]
        assert http.delete(answer.headers["Location"]).status_code == 202
        assert list(folder.iterdir()) == []
        opened(http)
    assert not folder.exists()


def test_a_mount_shares_a_blob_of_another_repository(http: httpx.Client, registry: MemoryRegistry) -> None:
    digest = registry.hold_blob("base", DATA)
    registry.hold_blob(REPOSITORY, b"something else")
    mount = f"{BASE}/blobs/uploads/"

    assert http.head(f"{BASE}/blobs/{digest}").status_code == 404
    assert http.post(mount, params={"mount": digest, "from": "elsewhere"}).status_code == 202
    assert http.post(mount, params={"mount": digest, "from": "base"}).status_code == 201
    assert http.get(f"{BASE}/blobs/{digest}").content == DATA


def test_a_registry_without_mounts_opens_a_session_instead() -> None:
    with MemoryRegistry(mounts=False) as registry, client(registry) as http:
        query = {"mount": registry.hold_blob("base", DATA), "from": "base"}
        answer = http.post(f"{BASE}/blobs/uploads/", params=query)
        assert answer.status_code == 202
        assert (
            http.put(answer.headers["Location"], params={"digest": DIGEST}, content=DATA).status_code == 201
        )


def test_a_manifest_keeps_its_bytes_and_its_type_by_tag_and_by_digest(
    http: httpx.Client, registry: MemoryRegistry
) -> None:
    registry.hold(REPOSITORY, IMAGE)
    answer = put(http, IMAGE, "v1")

    assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, IMAGE.digest)
    for reference in ("v1", IMAGE.digest):
        got = http.get(f"{BASE}/manifests/{reference}")
        assert (got.content, got.headers["Content-Type"]) == (IMAGE.manifest.content, OCI_MANIFEST)
        head = http.head(f"{BASE}/manifests/{reference}")
        assert head.headers["Docker-Content-Digest"] == IMAGE.digest
        assert head.headers["Content-Length"] == str(IMAGE.manifest.size)
    assert registry.tag(REPOSITORY, "v1") == IMAGE.digest
    assert list(registry.manifests(REPOSITORY)) == [IMAGE.digest]


def test_a_manifest_is_refused_until_its_blobs_are_there(
    http: httpx.Client, registry: MemoryRegistry
) -> None:
    answer = put(http, IMAGE, "v1")

    assert code(answer) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert IMAGE.layers[0].descriptor.digest in answer.json()["errors"][0]["message"]
    assert registry.tags(REPOSITORY) == {}


@pytest.mark.parametrize(("sparse", "status"), [(True, 201), (False, 400)])
def test_an_index_without_its_children_is_a_matter_of_terms(sparse: bool, status: int) -> None:  # noqa: FBT001  (pytest's own call)
    index = build_index([IMAGE])
    with MemoryRegistry(sparse_index=sparse) as registry, client(registry) as http:
        answer = http.put(
            f"{BASE}/manifests/v1",
            content=index.manifest.content,
            headers={"Content-Type": OCI_INDEX},
        )
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"not json", OCI_MANIFEST, (400, "MANIFEST_INVALID")),
        (b'{"manifests": [], "layers": []}', OCI_INDEX, (400, "MANIFEST_INVALID")),
        (b'{"manifests": []}', "text/plain", (400, "MANIFEST_INVALID")),
        (b'{"manifests": []}', OCI_MANIFEST, (400, "MANIFEST_INVALID")),
        (b" " * (MAX_MANIFEST_BYTES + 1), OCI_MANIFEST, (413, "MANIFEST_INVALID")),
    ],
)
def test_what_is_no_manifest_is_refused(
    http: httpx.Client, content: bytes, kind: str, expected: tuple[int, str]
) -> None:
    answer = http.put(f"{BASE}/manifests/v1", content=content, headers={"Content-Type": kind})
    assert code(answer) == expected


def test_a_manifest_put_at_another_digest_is_refused(http: httpx.Client, registry: MemoryRegistry) -> None:
    registry.hold(REPOSITORY, IMAGE)
    assert code(put(http, IMAGE, DIGEST)) == (400, "DIGEST_INVALID")


def test_deleting_a_tag_leaves_the_manifest_and_deleting_a_manifest_takes_its_tags(
    http: httpx.Client, registry: MemoryRegistry
) -> None:
    for tag in ("a", "b", "c"):
        registry.hold(REPOSITORY, IMAGE, tag)

    assert http.delete(f"{BASE}/manifests/a").status_code == 202
    assert registry.tags(REPOSITORY).keys() == {"b", "c"}
    assert http.delete(f"{BASE}/manifests/{IMAGE.digest}").status_code == 202
    assert registry.tags(REPOSITORY) == {}
    assert registry.manifests(REPOSITORY) == {}
    assert code(http.get(f"{BASE}/manifests/b")) == (404, "MANIFEST_UNKNOWN")


def test_tags_come_page_by_page_with_a_link(http: httpx.Client, registry: MemoryRegistry) -> None:
    for tag in ("c", "a", "b"):
        registry.hold(REPOSITORY, IMAGE, tag)

    first = http.get(f"{BASE}/tags/list", params={"n": 2})
    second = http.get(first.links["next"]["url"])

    assert first.json() == {"name": REPOSITORY, "tags": ["a", "b"]}
    assert second.json()["tags"] == ["c"]
    assert "Link" not in second.headers
    assert http.get(f"{BASE}/tags/list", params={"last": "a"}).json()["tags"] == ["b", "c"]
    assert code(http.get("v2/nobody/tags/list")) == (404, "NAME_UNKNOWN")
    assert http.get("v2/_catalog").json() == {"repositories": [REPOSITORY]}


def test_referrers_are_found_by_their_subject_and_filtered(
    http: httpx.Client, registry: MemoryRegistry
) -> None:
    registry.hold(REPOSITORY, IMAGE, "v1")
    sbom = build_artifact(
        {"s": b"1"}, artifact_type="application/sbom", subject=IMAGE, annotations={"by": "ci"}
    )
    other = build_artifact({"n": b"2"}, artifact_type="application/note", subject=IMAGE)
    registry.hold(REPOSITORY, other)
    registry.hold(REPOSITORY, sbom)
    path = f"{BASE}/referrers/{IMAGE.digest}"

    assert put(http, sbom, sbom.digest).headers["OCI-Subject"] == IMAGE.digest
    everything = http.get(path)
    assert everything.headers["Content-Type"] == OCI_INDEX
    assert {one["digest"] for one in everything.json()["manifests"]} == {sbom.digest, other.digest}
    filtered = http.get(path, params={"artifactType": "application/sbom"})
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert [(one["digest"], one["annotations"]) for one in filtered.json()["manifests"]] == [
        (sbom.digest, {"by": "ci"})
    ]
    assert http.get(f"{BASE}/referrers/{DIGEST}").json()["manifests"] == []


def test_a_registry_without_the_referrers_api_says_so() -> None:
    artifact = build_artifact({"s": b"1"}, artifact_type="application/sbom", subject=IMAGE)
    with MemoryRegistry(referrers=False) as registry, client(registry) as http:
        registry.hold(REPOSITORY, artifact)
        assert "OCI-Subject" not in put(http, artifact, artifact.digest).headers
        assert http.get(f"{BASE}/referrers/{IMAGE.digest}").status_code == 404


def test_an_immutable_tag_takes_the_same_image_again_and_no_other() -> None:
    other = build_image({"other": b"1"})
    with MemoryRegistry(immutable_tags=True) as registry, client(registry) as http:
        registry.hold(REPOSITORY, other)
        registry.hold(REPOSITORY, IMAGE, "v1")
        assert put(http, IMAGE, "v1").status_code == 201
        assert code(put(http, other, "v1")) == (400, "TAG_INVALID")
        assert put(http, other, other.digest).status_code == 201
        assert registry.tag(REPOSITORY, "v1") == IMAGE.digest


def test_a_registry_without_deletes_still_cancels_uploads() -> None:
    with MemoryRegistry(deletes=False) as registry, client(registry) as http:
        registry.hold(REPOSITORY, IMAGE, "v1")
        assert code(http.delete(f"{BASE}/manifests/v1")) == (405, "UNSUPPORTED")
        assert code(http.delete(f"{BASE}/blobs/{IMAGE.config.descriptor.digest}")) == (
            405,
            "UNSUPPORTED",
        )
        assert http.delete(opened(http)).status_code == 204


def test_a_full_quota_is_told_even_to_a_client_that_is_still_sending() -> None:
    layer = random_layer(4_000_000)
    with MemoryRegistry(quota_bytes=1_000_000) as registry, client(registry) as http:
        session = opened(http)
        answer = http.put(session, params={"digest": layer.descriptor.digest}, content=layer.open())
        assert code(answer) == (403, "DENIED")
        assert "quota" in answer.json()["errors"][0]["message"]
        http.delete(session)
        assert http.put(opened(http), params={"digest": DIGEST}, content=DATA).status_code == 201


def test_a_password_is_asked_for_and_checked() -> None:
    with MemoryRegistry(username="ann", password="s3cret") as registry, client(registry) as http:
        unknown = http.get("v2/")
        assert code(unknown) == (401, "UNAUTHORIZED")
        assert unknown.headers["WWW-Authenticate"] == 'Basic realm="registry"'
        assert http.get("v2/", auth=("ann", "wrong")).status_code == 401
        assert http.get("v2/", auth=("ann", "s3cret")).status_code == 200
        assert "s3cret" not in repr(registry._api._terms)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "Team/app/tags/list", (400, "NAME_INVALID")),
        ("PUT", "team/app/manifests/-bad", (400, "TAG_INVALID")),
        ("GET", "team/app/blobs/sha256:..", (400, "DIGEST_INVALID")),
        ("POST", "team/app/tags/list", (405, "UNSUPPORTED")),
        ("GET", "team/app/other", (404, "NOT_FOUND")),
    ],
)
def test_a_malformed_request_gets_its_error_code(
    http: httpx.Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert code(http.request(method, f"v2/{path}")) == expected


def test_requests_are_logged_and_counted_by_kind(http: httpx.Client, registry: MemoryRegistry) -> None:
    http.put(opened(http), params={"digest": DIGEST}, content=DATA)
    http.head(f"{BASE}/blobs/{DIGEST}")
    http.get(f"{BASE}/manifests/none")

    assert registry.requests[0] == Logged("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    assert [one.kind for one in registry.requests] == ["uploads", "upload", "blob", "manifest"]
    assert (registry.count("blob"), registry.count("blob", "GET"), registry.count("blob", "HEAD")) == (
        1,
        0,
        1,
    )
    registry.forget_requests()
    assert registry.requests == []


def test_a_paused_request_waits_until_it_is_released(http: httpx.Client, registry: MemoryRegistry) -> None:
    answers: list[int] = []
    with registry.pause(lambda method, path: method == "GET" and path.endswith("/tags/list")) as pause:
        thread = threading.Thread(target=lambda: answers.append(http.get("v2/none/tags/list").status_code))
        thread.start()
        assert pause.reached.wait(10)
        assert httpx.get(f"http://{registry.host}/v2/", verify=False).status_code == 200
        assert answers == []
        pause.release()
        thread.join(10)
    assert answers == [404]


def test_a_hook_makes_one_request_fail(http: httpx.Client, registry: MemoryRegistry) -> None:
    def unwell(method: str, path: str) -> None:
        raise ErrorReply(503, "UNAVAILABLE", "back soon", {"Retry-After": "7"})

    registry.on_request = unwell
    answer = http.get("v2/")
    registry.on_request = None

    assert code(answer) == (503, "UNAVAILABLE")
    assert answer.headers["Retry-After"] == "7"
    assert http.get("v2/").status_code == 200


def test_a_hook_cuts_a_download_in_the_middle(http: httpx.Client, registry: MemoryRegistry) -> None:
    digest = registry.hold_blob(REPOSITORY, DATA * 100)

    def cut(method: str, path: str) -> None:
        raise Cut(after_bytes=400)

    registry.on_request = cut
    got = bytearray()
    with http.stream("GET", f"{BASE}/blobs/{digest}") as answer:
        chunks = answer.iter_raw(chunk_size=100)
        got += b"".join(next(chunks) for _ in range(4))
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
    assert answer.headers["Content-Length"] == "1000"
    assert bytes(got) == DATA * 40


def test_a_hook_cuts_an_upload_in_the_middle(http: httpx.Client, registry: MemoryRegistry) -> None:
    session = opened(http)

    def cut(method: str, path: str) -> None:
        raise Cut(after_bytes=1)

    registry.on_request = cut
    with pytest.raises(httpx.TransportError):
        http.put(session, params={"digest": DIGEST}, content=random_layer(8_000_000).open())
    assert dict(registry.blobs) == {}


def test_a_stopped_registry_refuses_and_comes_back_at_the_same_port(registry: MemoryRegistry) -> None:
    registry.hold(REPOSITORY, IMAGE, "v1")
    with client(registry) as http:
        assert http.get("v2/").status_code == 200
        registry.stop()
        with pytest.raises(httpx.TransportError):
            http.get("v2/")
        registry.start()
        assert http.get(f"{BASE}/manifests/v1").content == IMAGE.manifest.content


def test_serving_in_the_callers_thread_ends_with_stop() -> None:
    registry = MemoryRegistry().bind()
    thread = threading.Thread(target=registry.serve_forever)
    thread.start()

    assert httpx.get(f"http://{registry.host}/v2/", verify=False).status_code == 200
    registry.stop()
    thread.join(10)

    assert not thread.is_alive()


def test_a_test_may_corrupt_or_lose_a_blob(http: httpx.Client, registry: MemoryRegistry) -> None:
    digest = registry.hold_blob(REPOSITORY, DATA)

    registry.blobs[digest] = b"X" * len(DATA)
    assert http.get(f"{BASE}/blobs/{digest}").content == b"X" * len(DATA)
    del registry.blobs[digest]
    assert code(http.get(f"{BASE}/blobs/{digest}")) == (404, "BLOB_UNKNOWN")
    assert not registry.holds_blob(REPOSITORY, digest)


@needs_skopeo
def test_skopeo_pushes_here_and_pulls_the_same_bytes(registry: MemoryRegistry, tmp_path: Path) -> None:
    with MemoryRegistry() as origin:
        index = build_index([IMAGE, build_image({"big": random_layer(2_000_000).open().__next__()})])
        origin.hold("app", index, "v1")
        copy(f"docker://{origin.host}/app:v1", f"docker://{registry.host}/{REPOSITORY}:v1", "--all")
    copy(f"docker://{registry.host}/{REPOSITORY}:v1", f"oci:{tmp_path}:v1", "--all")

    assert registry.tag(REPOSITORY, "v1") == index.digest
    assert registry.manifests(REPOSITORY)[index.digest].content == index.manifest.content
    assert registry.open_sessions == 0
    listed = json.loads((tmp_path / "index.json").read_bytes())["manifests"]
    assert [entry["digest"] for entry in listed] == [index.digest]


@needs_skopeo
def test_skopeo_lists_inspects_and_deletes_behind_a_password(tmp_path: Path) -> None:
    with MemoryRegistry(username="ann", password="s3cret") as registry:
        registry.hold(REPOSITORY, IMAGE, "v1")
        name, login = f"docker://{registry.host}/{REPOSITORY}", "--creds=ann:s3cret"
        assert inspect(f"{name}:v1", login)["Digest"] == IMAGE.digest
        assert json.loads(skopeo("list-tags", "--tls-verify=false", login, name))["Tags"] == ["v1"]
        skopeo("delete", "--tls-verify=false", login, f"{name}:v1")
        assert registry.tags(REPOSITORY) == {}


def test_pulls_are_limited_as_docker_hub_does() -> None:
    clock = [0.0]
    limits = PullLimits(2, 60, retry_after=True, clock=lambda: clock[0])
    with MemoryRegistry(pulls=limits) as registry, client(registry) as http:
        registry.hold(REPOSITORY, IMAGE, "1")
        path = f"{BASE}/manifests/1"

        assert [http.head(path).headers["ratelimit-remaining"] for _ in range(3)] == ["2;w=60"] * 3
        assert [http.get(path).headers["ratelimit-remaining"] for _ in range(2)] == ["1;w=60", "0;w=60"]
        refused = http.get(path)
        assert code(refused) == (429, "TOOMANYREQUESTS")
        assert (refused.headers["retry-after"], refused.headers["docker-ratelimit-source"]) == (
            "60",
            limits.address,
        )
        assert http.get(f"{BASE}/manifests/none").status_code == 404
        clock[0] = 61.0
        assert http.get(path).headers["ratelimit-remaining"] == "1;w=60"
