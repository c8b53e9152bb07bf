"""Image layout folders as sources and targets, next to skopeo and through full disks and sudden deaths."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.descriptor import Descriptor, digest_of
from registry.errors import Denied, DigestMismatch, NotFound, Permanent, Refused, RegistryError, Unsupported
from registry.hello import hello_index
from registry.images import Blob, build_artifact, build_image, build_index, push, random_layer
from registry.layout import LayoutRepository
from registry.layout_files import LayoutFiles
from registry.layout_index import CONTAINERD_NAME, REF_NAME
from registry.manifest import Manifest
from registry.reference import LAYOUT, MalformedReference
from registry.repository import BLOCK, Repository
from tests.support.skopeo import copy, inspect, needs_skopeo, raw_manifest

IMAGE = build_image({"etc/motd": b"welcome\n"})
OTHER = build_image({"etc/motd": b"changed\n"})
BLOB = Blob.of(b"0123456789", "application/octet-stream")


@pytest.fixture
def layout(tmp_path: Path) -> LayoutRepository:
    return LayoutRepository(tmp_path / "images")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


def entries(folder: Path) -> list[dict[str, Any]]:
    manifests = json.loads((folder / "index.json").read_bytes())["manifests"]
    assert isinstance(manifests, list)
    return manifests


def rewrite(folder: Path, manifests: list[dict[str, Any]], **members: object) -> None:
    document = {"schemaVersion": 2, "manifests": manifests, **members}
    (folder / "index.json").write_text(json.dumps(document))


def all_tags(layout: LayoutRepository) -> list[str]:
    return [tag for page in layout.tags() for tag in page]


def send(layout: LayoutRepository, blob: Blob, *chunks: bytes) -> None:
    upload = layout.start_upload(blob.descriptor)
    assert upload is not None
    layout.finish_upload(upload, blob.descriptor, chunks or blob.open())


def read(layout: LayoutRepository, blob: Descriptor, offset: int = 0) -> bytes:
    with layout.open_blob(blob, offset) as chunks:
        return b"".join(bytes(chunk) for chunk in chunks)


def leftovers(folder: Path) -> list[Path]:
    return list((folder / ".sealift" / "tmp").iterdir())


def test_it_is_a_repository_named_by_its_folder(folder: Path) -> None:
    repository: Repository = LayoutRepository(folder)
    assert (repository.host, repository.name) == (LAYOUT, f"oci:{folder}")


def test_what_was_put_is_read_back_by_tag_and_by_digest(layout: LayoutRepository) -> None:
    index = hello_index("1.0")
    push(layout, index, "1.0")
    push(layout, index, "latest")

    assert list(layout.tags()) == [["1.0", "latest"]]
    assert list(layout.tags(last="1.0")) == [["latest"]]
    assert layout.resolve("latest") == index.manifest.descriptor
    for reference in ("1.0", index.digest, index.children[1].digest):
        assert layout.manifest(reference).digest == layout.resolve(reference).digest
    assert layout.manifest("1.0").content == index.manifest.content


def test_a_blob_is_streamed_in_blocks_from_any_offset(layout: LayoutRepository) -> None:
    layer = random_layer(5 * BLOCK + 512)
    send(layout, layer)
    content = b"".join(layer.open())

    assert layout.blob_size(layer.descriptor.digest) == len(content)
    assert read(layout, layer.descriptor) == content
    assert read(layout, layer.descriptor, offset=BLOCK + 7) == content[BLOCK + 7 :]
    with layout.open_blob(layer.descriptor) as chunks:
        assert max(len(chunk) for chunk in chunks) == BLOCK


def test_sha512_content_has_a_folder_of_its_own(layout: LayoutRepository, folder: Path) -> None:
    data = b"content"
    digest = digest_of(data, "sha512")
    blob = Blob(Descriptor("application/octet-stream", digest, len(data)), lambda: iter((data,)))

    send(layout, blob)

    assert (folder / "blobs" / "sha512" / digest[7:]).read_bytes() == data
    assert read(layout, blob.descriptor) == data


@pytest.mark.parametrize("chunks", [(b"0123456788",), (b"01234", b"5678"), (b"0123456789", b"0")])
def test_bytes_that_are_not_the_blob_are_refused_and_removed(
    layout: LayoutRepository, folder: Path, chunks: tuple[bytes, ...]
) -> None:
    with pytest.raises(DigestMismatch) as caught:
        send(layout, BLOB, *chunks)

    assert caught.value.end == layout.name
    assert leftovers(folder) == []
    with pytest.raises(NotFound):
        layout.blob_size(BLOB.descriptor.digest)


def test_an_error_of_the_source_passes_through_unchanged(layout: LayoutRepository, folder: Path) -> None:
    broken = OSError(errno.ENOSPC, "the other end's trouble")

    def chunks() -> Iterator[bytes]:
        yield b"01234"
        raise broken

    upload = layout.start_upload(BLOB.descriptor)
    assert upload is not None
    with pytest.raises(OSError, match="trouble") as caught:
        layout.finish_upload(upload, BLOB.descriptor, chunks())

    assert caught.value is broken
    assert leftovers(folder) == []


def test_a_cancelled_upload_leaves_nothing_and_may_be_cancelled_again(
    layout: LayoutRepository, folder: Path
) -> None:
    upload = layout.start_upload(BLOB.descriptor)
    assert upload is not None
    layout.cancel_upload(upload)
    layout.cancel_upload(upload)
    assert leftovers(folder) == []


def test_a_blob_of_another_layout_is_mounted_as_a_hard_link(layout: LayoutRepository, tmp_path: Path) -> None:
    origin = LayoutRepository(tmp_path / "origin")
    send(origin, BLOB)

    for name in (origin.name, str(tmp_path / "origin")):
        assert layout.start_upload(BLOB.descriptor, mount_from=name) is None

    path = tmp_path / "images" / "blobs" / "sha256" / BLOB.descriptor.digest[7:]
    assert path.stat().st_ino == (tmp_path / "origin" / path.relative_to(tmp_path / "images")).stat().st_ino
    assert read(layout, BLOB.descriptor) == b"0123456789"
    assert leftovers(tmp_path / "images") == []


def test_what_cannot_be_mounted_is_uploaded(layout: LayoutRepository, tmp_path: Path) -> None:
    upload = layout.start_upload(BLOB.descriptor, mount_from=str(tmp_path / "nowhere"))
    assert upload is not None
    layout.finish_upload(upload, BLOB.descriptor, BLOB.open())
    assert layout.blob_size(BLOB.descriptor.digest) == 10


def test_a_manifest_waits_for_its_blobs(layout: LayoutRepository) -> None:
    with pytest.raises(Refused) as caught:
        layout.put_manifest("v1", IMAGE.manifest)

    assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"
    assert IMAGE.layers[0].descriptor.digest in str(caught.value)
    assert all_tags(layout) == []


def test_an_index_may_lack_children(layout: LayoutRepository) -> None:
    index = build_index([IMAGE, OTHER])
    push(layout, IMAGE)
    layout.put_manifest("v1", index.manifest)
    assert layout.manifest("v1").content == index.manifest.content


def test_a_manifest_at_another_digest_is_refused(layout: LayoutRepository) -> None:
    with pytest.raises(DigestMismatch):
        layout.put_manifest(BLOB.descriptor.digest, IMAGE.manifest)


def test_moving_a_tag_keeps_other_entries_their_annotations_and_its_full_name(
    layout: LayoutRepository, folder: Path
) -> None:
    push(layout, IMAGE, "v1")
    entry = entries(folder)[0]
    foreign = {**entry, "annotations": {"org.example": "kept", REF_NAME: "other"}, "x-unknown": [1]}
    named = {**entry, "annotations": {REF_NAME: "docker.io/library/app:v1", "org.example": "stale"}}
    rewrite(folder, [foreign, entry, named], annotations={"whole": "kept"})

    push(layout, OTHER, "v1")

    assert json.loads((folder / "index.json").read_bytes())["annotations"] == {"whole": "kept"}
    first, moved = entries(folder)
    assert first == foreign
    assert moved["digest"] == OTHER.digest
    assert moved["annotations"] == {REF_NAME: "docker.io/library/app:v1"}
    assert all_tags(layout) == ["other", "v1"]


@pytest.mark.parametrize(
    "annotations",
    [
        {REF_NAME: "v1"},
        {REF_NAME: "docker.io/library/app:v1"},
        {CONTAINERD_NAME: "ghcr.io/team/app:v1"},
        {REF_NAME: "not / a name", CONTAINERD_NAME: "ghcr.io/team/app:v1"},
    ],
)
def test_names_that_other_tools_write_are_understood(
    layout: LayoutRepository, folder: Path, annotations: dict[str, str]
) -> None:
    push(layout, IMAGE, "x")
    entry = entries(folder)[0]
    rewrite(folder, [{**entry, "annotations": annotations}, {**entry, "annotations": {REF_NAME: "a b"}}])

    assert all_tags(layout) == ["v1"]
    assert layout.resolve("v1").digest == IMAGE.digest


def test_a_deleted_tag_leaves_the_content_and_a_deleted_digest_takes_it(layout: LayoutRepository) -> None:
    for tag in ("a", "b", "c"):
        push(layout, IMAGE, tag)

    layout.delete_manifest("a")
    assert all_tags(layout) == ["b", "c"]
    layout.delete_manifest(IMAGE.digest)
    assert all_tags(layout) == []
    for gone in ("a", IMAGE.digest):
        with pytest.raises(NotFound):
            layout.delete_manifest(gone)


def test_referrers_are_found_by_their_subject(layout: LayoutRepository, folder: Path) -> None:
    push(layout, IMAGE, "v1")
    sbom = build_artifact(
        {"s": b"1"}, artifact_type="application/sbom", subject=IMAGE, annotations={"by": "ci"}
    )
    note = build_artifact({"n": b"1"}, artifact_type="application/note", subject=IMAGE)

    push(layout, sbom)
    push(layout, sbom)
    push(layout, note, "note")

    found = {one.digest: one for one in layout.referrers(IMAGE.digest)}
    assert found.keys() == {sbom.digest, note.digest}
    assert found[sbom.digest].artifact_type == "application/sbom"
    assert found[sbom.digest].annotations == (("by", "ci"),)
    assert all_tags(layout) == ["note", "v1"]
    assert len(entries(folder)) == 3
    assert layout.referrers(OTHER.digest) == []
    assert LayoutRepository(folder / "nowhere").referrers(IMAGE.digest) == []


def test_referrers_of_a_tag_schema_index_are_found_too(layout: LayoutRepository) -> None:
    push(layout, IMAGE, "v1")
    sbom = build_artifact({"s": b"1"}, artifact_type="application/sbom", subject=IMAGE)
    push(layout, build_index([sbom]), IMAGE.digest.replace(":", "-"))
    assert sbom.digest in {one.digest for one in layout.referrers(IMAGE.digest)}


def test_a_referrer_put_without_entry_can_be_listed(layout: LayoutRepository, folder: Path) -> None:
    push(layout, IMAGE, "v1")
    sbom = build_artifact({"s": b"1"}, artifact_type="application/sbom", subject=IMAGE)
    push(layout, sbom)
    rewrite(folder, [])
    assert layout.referrers(IMAGE.digest) == []

    layout.add_referrer(IMAGE.digest, sbom.manifest.descriptor)

    assert [one.digest for one in layout.referrers(IMAGE.digest)] == [sbom.digest]


def test_a_missing_or_empty_folder_holds_nothing_and_takes_everything(folder: Path) -> None:
    layout = LayoutRepository(folder)
    for exists in (False, True):
        if exists:
            folder.mkdir()
        with pytest.raises(NotFound):
            layout.resolve("v1")
        with pytest.raises(NotFound):
            list(layout.tags())
        with pytest.raises(NotFound):
            layout.blob_size(BLOB.descriptor.digest)
        with pytest.raises(NotFound), layout.open_blob(BLOB.descriptor):
            pass
    push(layout, IMAGE, "v1")
    assert all_tags(layout) == ["v1"]


def test_a_folder_of_something_else_is_neither_read_nor_written(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    layout = LayoutRepository(folder)

    with pytest.raises(Permanent, match="not an OCI image layout"):
        list(layout.tags())
    with pytest.raises(Permanent, match="not an OCI image layout"):
        push(layout, IMAGE, "v1")
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("oci-layout", "{}", "oci-layout is broken"),
        ("oci-layout", '{"imageLayoutVersion": "2.0.0"}', "'2.0.0'; known is 1.0.0"),
        ("index.json", "{", r"index.json is broken \(it is not JSON\)"),
        ("index.json", '{"manifests": 1}', r"index.json is broken \(it has no list of manifests\)"),
        ("index.json", '{"manifests": [{"size": 1}]}', "index.json is broken .malformed descriptor"),
    ],
)
def test_a_broken_layout_is_named_as_such(folder: Path, name: str, content: str, complaint: str) -> None:
    push(LayoutRepository(folder), IMAGE, "v1")
    (folder / name).write_text(content)

    with pytest.raises(Permanent, match=complaint):
        LayoutRepository(folder).resolve("v1")
    with pytest.raises(Permanent, match=complaint):
        push(LayoutRepository(folder), OTHER, "v2")
    assert (folder / name).read_text() == content


def test_a_manifest_whose_file_was_changed_is_not_served(layout: LayoutRepository, folder: Path) -> None:
    push(layout, IMAGE, "v1")
    (folder / "blobs" / "sha256" / IMAGE.digest[7:]).write_bytes(OTHER.manifest.content)
    with pytest.raises(DigestMismatch):
        layout.manifest("v1")


def test_a_layer_is_no_manifest(layout: LayoutRepository) -> None:
    push(layout, IMAGE, "v1")
    with pytest.raises(Unsupported):
        layout.manifest(IMAGE.layers[0].descriptor.digest)


def test_only_digests_and_tags_become_paths(layout: LayoutRepository) -> None:
    push(layout, IMAGE, "v1")
    with pytest.raises(ValueError, match="not a digest"):
        layout.blob_size("sha256:../../etc/passwd")
    for ask in (layout.resolve, layout.delete_manifest, lambda tag: layout.put_manifest(tag, IMAGE.manifest)):
        with pytest.raises(MalformedReference):
            ask("../v1")


def test_a_full_disk_is_named_and_leaves_nothing(
    layout: LayoutRepository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(layout, IMAGE, "v1")
    real = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) < 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: len(data) - 4])

    monkeypatch.setattr(os, "write", full)
    for attempt in (lambda: send(layout, BLOB), lambda: push(layout, build_index([IMAGE]), "v1")):
        with pytest.raises(Refused, match=f"no space left under {folder}"):
            attempt()
    monkeypatch.undo()

    assert leftovers(folder) == []
    assert layout.resolve("v1").digest == IMAGE.digest


def test_a_real_full_file_system_is_survived(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", os.fspath(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        layout = LayoutRepository(tmp_path / "images")
        push(layout, IMAGE, "v1")
        with pytest.raises(Refused, match="no space left"):
            push(layout, build_image({}, layers=[random_layer(2**20)]), "v2")
        assert leftovers(tmp_path / "images") == []
        push(layout, OTHER, "v2")
        assert all_tags(layout) == ["v1", "v2"]
    finally:
        subprocess.run(["umount", os.fspath(tmp_path)], check=True)


def test_a_forbidden_folder_is_denied(layout: LayoutRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    push(layout, IMAGE, "v1")

    def forbidden(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "the file")

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(Denied, match="Permission denied: the file") as caught:
        layout.put_manifest("v2", IMAGE.manifest)
    assert caught.value.end == layout.name


def test_leftovers_of_dead_writers_are_removed_after_a_day(layout: LayoutRepository, folder: Path) -> None:
    dead, alive = layout.start_upload(BLOB.descriptor), layout.start_upload(BLOB.descriptor)
    assert dead is not None
    assert alive is not None
    os.utime(dead.location, (0, 0))

    push(LayoutRepository(folder), IMAGE, "v1")

    assert leftovers(folder) == [Path(alive.location)]


def test_many_writers_lose_no_tag(folder: Path) -> None:
    push(LayoutRepository(folder), IMAGE)
    failures: list[RegistryError] = []

    def write(writer: int) -> None:
        layout = LayoutRepository(folder)
        try:
            for number in range(5):
                layout.put_manifest(f"t{writer}-{number}", IMAGE.manifest)
        except RegistryError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert failures == []
    assert len(all_tags(LayoutRepository(folder))) == 30


def test_bytes_are_on_disk_before_they_get_their_name_and_the_name_before_the_call_ends(
    layout: LayoutRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(layout, IMAGE, "v1")
    steps: list[tuple[str, int]] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(("sync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.extend((("rename", path.stat().st_ino), ("sync", target.parent.stat().st_ino)))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    push(layout, OTHER, "v1")

    # Two blobs, the manifest, index.json: sync file, rename, sync folder, which `renamed` foretold.
    assert len(steps) == 4 * 4
    for at in range(0, len(steps), 4):
        file, name, foretold, parent = steps[at : at + 4]
        assert name == ("rename", file[1])
        assert parent == foretold


DYING = """
import os, signal, sys
from pathlib import Path
from registry.images import build_image, push
from registry.layout import LayoutRepository

steps = int(sys.argv[2])

def dying(real):
    def call(*args, **kwargs):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call

for owner, name in ((os, "write"), (os, "fsync"), (Path, "replace")):
    setattr(owner, name, dying(getattr(owner, name)))
push(LayoutRepository(sys.argv[1]), build_image({"etc/motd": b"changed\\n"}), "v1")
"""


@pytest.mark.parametrize("fresh", [True, False])
def test_a_killed_writer_leaves_a_whole_layout(tmp_path: Path, fresh: bool) -> None:  # noqa: FBT001  (pytest's own call)
    for steps in range(0, 100, 3):
        folder = tmp_path / str(steps)
        if not fresh:
            push(LayoutRepository(folder), IMAGE, "v1")
        done = subprocess.run(
            [sys.executable, "-c", DYING, os.fspath(folder), str(steps)], check=False, timeout=30
        )
        before = "" if fresh else IMAGE.digest
        assert_whole(folder, {OTHER.digest} if done.returncode == 0 else {OTHER.digest, before})
        push(LayoutRepository(folder), OTHER, "v1")
        assert LayoutRepository(folder).resolve("v1").digest == OTHER.digest
        if done.returncode == 0:
            return
    pytest.fail("the writer never came to its end")


def assert_whole(folder: Path, allowed: set[str]) -> None:
    """The tag is at one of the ``allowed`` ("": not there at all), and everything below it is true."""
    layout = LayoutRepository(folder)
    try:
        listed = all_tags(layout)
    except NotFound:
        listed = []
    if not listed and "" in allowed:
        return
    manifest = layout.manifest("v1")
    assert manifest.digest in allowed
    for blob in manifest.blobs:
        assert digest_of(read(layout, blob)) == blob.digest


@needs_skopeo
def test_skopeo_reads_what_we_wrote(layout: LayoutRepository, folder: Path, tmp_path: Path) -> None:
    index = hello_index("1.0")
    push(layout, index, "1.0")

    assert inspect(f"oci:{folder}:1.0")["Labels"]["org.opencontainers.image.version"] == "1.0"
    copy(f"oci:{folder}:1.0", f"oci:{tmp_path}/copy:1.0", "--all")

    assert raw_manifest(f"oci:{tmp_path}/copy:1.0") == index.manifest.content


@needs_skopeo
def test_we_read_and_extend_what_skopeo_wrote(layout: LayoutRepository, folder: Path, tmp_path: Path) -> None:
    push(LayoutRepository(tmp_path / "origin"), hello_index("1.0"), "1.0")
    copy(f"oci:{tmp_path}/origin:1.0", f"oci:{folder}:1.0", "--all")

    assert layout.manifest("1.0").content == hello_index("1.0").manifest.content
    for child in layout.manifest("1.0").children:
        for blob in layout.manifest(child.digest).blobs:
            assert digest_of(read(layout, blob)) == blob.digest
    push(layout, hello_index("2.0"), "2.0")
    assert raw_manifest(f"oci:{folder}:1.0") == hello_index("1.0").manifest.content
    assert raw_manifest(f"oci:{folder}:2.0") == hello_index("2.0").manifest.content
    assert Manifest.parse(raw_manifest(f"oci:{folder}:2.0")).digest == hello_index("2.0").digest


def test_a_layout_that_another_makes_meanwhile_is_one(
    layout: LayoutRepository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = LayoutFiles.holds_nothing

    def later(files: LayoutFiles) -> bool:
        monkeypatch.setattr(LayoutFiles, "holds_nothing", really)
        push(LayoutRepository(folder), IMAGE, "v1")
        return files.holds_nothing()

    monkeypatch.setattr(LayoutFiles, "holds_nothing", later)

    assert layout.resolve("v1").digest == IMAGE.digest
