"""An OCI image layout folder as a source or a target (OCI image-spec 1.1, image-layout.md).

Whatever moment a process or the machine dies at, the folder stays a valid layout: content is written
beside, synced and renamed into place, and ``index.json``, which makes it visible, is replaced last, by
one writer at a time.

Docker schema 2 content is kept as it is too. crane and containerd read it from a layout; skopeo and podman
look for OCI media types only.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import FileIO
from pathlib import Path

from registry.descriptor import Descriptor, digest_of, is_digest
from registry.errors import DigestMismatch, NotFound, Permanent, Refused, Unsupported
from registry.layout_files import LayoutFiles, create, system_errors, write_all
from registry.layout_index import LayoutIndex
from registry.manifest import MAX_MANIFEST_BYTES, Manifest, ManifestError
from registry.reference import LAYOUT, check_tag
from registry.repository import BLOCK, Upload

_VERSION = "1.0.0"
_MARKER = json.dumps({"imageLayoutVersion": _VERSION}).encode()


class LayoutRepository:
    """One folder; satisfies :class:`registry.repository.Repository`.

    Any number of instances, threads and processes of one machine may use a folder at once. A folder that
    is missing or empty becomes a layout with the first write.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = str(folder)
        self._files = LayoutFiles(Path(folder))
        self._prepared = False
        self._seen: tuple[tuple[int, int, int], LayoutIndex] | None = None
        # By digest of a listed manifest, for ever true: what it is about, and it as a referrer.
        self._subjects: dict[str, tuple[str, Descriptor]] = {}

    def __repr__(self) -> str:
        return f"LayoutRepository({self._folder!r})"

    @property
    def name(self) -> str:
        return f"{LAYOUT}{self._folder}"

    @property
    def host(self) -> str:
        return LAYOUT

    def tags(self, last: str | None = None) -> Iterator[list[str]]:
        """One page of all tags, sorted."""
        yield sorted(tag for tag in self._index().tags if tag > (last or ""))

    def resolve(self, tag_or_digest: str) -> Descriptor:
        manifest = self.manifest(tag_or_digest)
        return Descriptor(manifest.media_type, manifest.digest, manifest.size)

    def manifest(self, tag_or_digest: str) -> Manifest:
        index = self._index()
        if is_digest(tag_or_digest):
            return self._read_manifest(tag_or_digest, tag_or_digest, index.media_type(tag_or_digest))
        entry = index.tags.get(check_tag(tag_or_digest))
        if entry is None:
            raise NotFound(self.name, tag_or_digest, "there is no such tag")
        return self._read_manifest(tag_or_digest, entry.digest, entry.media_type)

    def put_manifest(self, tag_or_digest: str, manifest: Manifest) -> bool:
        """Store the bytes; True, as a subject is found by reading it.

        Refused (MANIFEST_BLOB_UNKNOWN) while the config or a layer is missing. Children of an index may be
        missing: a platform subset keeps the whole index's bytes.
        """
        tag = None if is_digest(tag_or_digest) else check_tag(tag_or_digest)
        digest = tag_or_digest if tag is None else manifest.digest
        found = digest_of(manifest.content, digest.partition(":")[0])
        if found != digest:
            raise DigestMismatch(self.name, tag_or_digest, f"the manifest's bytes are {found}")
        with self._errors(tag_or_digest):
            self._prepare()
            self._check_blobs(tag_or_digest, manifest)
            self._write_manifest(digest, manifest.content)
            descriptor = Descriptor(manifest.media_type, digest, manifest.size)
            if tag is not None:
                self._change_index(lambda index: index.with_tag(tag, descriptor))
            elif manifest.subject is not None:
                self._change_index(lambda index: index.with_untagged(descriptor))
        return True

    def delete_manifest(self, tag_or_digest: str) -> None:
        """By tag: the entry alone; by digest: every entry of it, and the manifest itself."""
        with self._errors(tag_or_digest):
            by_digest = is_digest(tag_or_digest)
            if not by_digest and check_tag(tag_or_digest) not in self._index().tags:
                raise NotFound(self.name, tag_or_digest, "there is no such tag")
            self._prepare()
            self._change_index(lambda index: index.without(tag_or_digest))
            if by_digest:
                self._files.blob(tag_or_digest).unlink()

    def blob_size(self, digest: str) -> int:
        with self._errors(digest):
            found = self._files.blob(digest).stat()
            if not stat.S_ISREG(found.st_mode):
                raise NotFound(self.name, digest, "not a file")
            return found.st_size

    @contextmanager
    def open_blob(self, blob: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes | memoryview]]:
        with self._errors(blob.digest):
            file = FileIO(self._files.blob(blob.digest))
        with file:
            yield self._blocks(file, blob.digest, offset)

    def start_upload(self, blob: Descriptor, mount_from: str | None = None) -> Upload | None:
        """Reserve a temporary file; ``mount_from`` names another layout, as ``DIR`` or ``oci:DIR``.

        Mounted is what a hard link can share: from a layout on another file system the blob is sent.
        """
        with self._errors(blob.digest):
            self._prepare()
            if mount_from is not None and self._mounted(blob, mount_from):
                return None
            return Upload(str(self._files.reserve()))

    def finish_upload(self, upload: Upload, blob: Descriptor, chunks: Iterable[bytes | memoryview]) -> None:
        """Write, sync and rename the blob; the temporary file is gone afterwards, whatever happened.

        Raises DigestMismatch where ``chunks`` are not what ``blob`` says, as a registry would.
        """
        temporary = self._files.reserved(upload.location)
        try:
            self._receive(temporary, blob, chunks)
            with self._errors(blob.digest):
                self._files.commit(temporary, self._files.blob(blob.digest))
        finally:
            # An error on the way out must not hide the one that says which end failed.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def cancel_upload(self, upload: Upload) -> None:
        with self._errors(""):
            self._files.reserved(upload.location).unlink(missing_ok=True)

    @property
    def pieces(self) -> None:
        """None: to trust a file that another process began, all of it would have to be read again."""

    def note_of(self, upload: Upload) -> str:
        return Path(upload.location).name

    def noted(self, note: str) -> Upload:
        return Upload(str(self._files.reserved(note)))

    def referrers(self, digest: str, *, has_tag: bool = True) -> list[Descriptor]:
        """Every listed manifest with this subject, and what a tag-schema index names."""
        try:
            index = self._index()
        except NotFound:
            return []
        found = dict(filter(None, (self._referrer(entry, digest) for entry in index.entries)))
        fallback = index.tags.get(digest.replace(":", "-")) if has_tag else None
        if fallback is not None and fallback.is_index:
            children = self._read_manifest(digest, fallback.digest, fallback.media_type).children
            found = {child.digest: child for child in children} | found
        return list(found.values())

    def add_referrer(self, subject: str, referrer: Descriptor) -> None:
        """List ``referrer``, which must be here already; its own ``subject`` says what it is about."""
        self.blob_size(referrer.digest)
        with self._errors(subject):
            self._prepare()
            listed = Descriptor(referrer.media_type, referrer.digest, referrer.size)
            self._change_index(lambda index: index.with_untagged(listed))

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return system_errors(self.name, self._files.folder, what)

    def _check_marker(self) -> None:
        """NotFound where a layout may still be made, Permanent where something else is."""
        try:
            version = json.loads(self._files.marker.read_bytes())["imageLayoutVersion"]
        except FileNotFoundError:
            if self._files.holds_nothing():
                raise NotFound(self.name, "", "there is no image layout") from None
            if not self._files.marker.exists():
                raise Permanent(self.name, "", "not an OCI image layout: it has no file oci-layout") from None
            self._check_marker()  # somebody has made it since: the marker comes before all else
            return
        except (ValueError, KeyError, TypeError):
            raise Permanent(self.name, "", "not an OCI image layout: its file oci-layout is broken") from None
        if version != _VERSION:
            raise Permanent(self.name, "", f"image layout version {version!r}; known is {_VERSION}")

    def _index(self) -> LayoutIndex:
        """The index as it is now; parsed again only if the file was replaced."""
        with self._errors(""):
            self._check_marker()
            try:
                found = self._files.index.stat()
            except FileNotFoundError:
                return LayoutIndex.empty()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._seen is None or self._seen[0] != version:
                self._seen = (version, self._parsed_index())
            return self._seen[1]

    def _parsed_index(self) -> LayoutIndex:
        try:
            return LayoutIndex.parse(self._files.index.read_bytes())
        except ValueError as error:
            reason = f"index.json is broken ({error}): restore it, or start again in an empty folder"
            raise Permanent(self.name, "", reason) from error

    def _prepare(self) -> None:
        """Make the folder a layout if nothing is there, once an instance; tidy up on the way."""
        if self._prepared and self._files.marker.exists():
            return
        try:
            self._check_marker()
            self._files.prepare()
        except NotFound:
            self._files.prepare()
            self._files.write(self._files.marker, _MARKER)
        with self._files.lock():
            if not self._files.index.exists():
                self._files.write(self._files.index, LayoutIndex.empty().content)
        self._prepared = True

    def _change_index(self, change: Callable[[LayoutIndex], LayoutIndex]) -> None:
        with self._files.lock():
            before = self._parsed_index()
            after = change(before)
            if after.document != before.document:
                self._files.write(self._files.index, after.content)

    def _read_manifest(self, what: str, digest: str, media_type: str) -> Manifest:
        with self._errors(what), FileIO(self._files.blob(digest)) as file:
            if os.fstat(file.fileno()).st_size > MAX_MANIFEST_BYTES:
                raise Unsupported(self.name, what, f"a manifest of more than {MAX_MANIFEST_BYTES} bytes")
            content = file.readall()
        algorithm = digest.partition(":")[0]
        if digest_of(content, algorithm) != digest:
            raise DigestMismatch(self.name, what, f"the file of {digest} holds other bytes")
        try:
            return Manifest.parse(content, media_type, algorithm)
        except ManifestError as error:
            raise Unsupported(self.name, what, str(error)) from error

    def _write_manifest(self, digest: str, content: bytes) -> None:
        path = self._files.blob(digest)
        if not path.exists() or path.read_bytes() != content:
            self._files.write(path, content)

    def _check_blobs(self, what: str, manifest: Manifest) -> None:
        # A layer with urls is fetched from there and never copied.
        missing = [blob.digest for blob in manifest.blobs if not blob.urls and not self._holds(blob)]
        if missing:
            reason = f"not in the layout: {', '.join(missing)}"
            raise Refused(self.name, what, reason, code="MANIFEST_BLOB_UNKNOWN")

    def _holds(self, blob: Descriptor) -> bool:
        try:
            return self.blob_size(blob.digest) == blob.size
        except NotFound:
            return False

    def _mounted(self, blob: Descriptor, mount_from: str) -> bool:
        origin = LayoutFiles(Path(mount_from.removeprefix(LAYOUT))).blob(blob.digest)
        try:
            if origin.stat().st_size != blob.size:
                return False
            self._files.link(origin, self._files.blob(blob.digest))
        except OSError:  # not there, or another file system: sending it is always possible
            return False
        return True

    def _receive(self, temporary: Path, blob: Descriptor, chunks: Iterable[bytes | memoryview]) -> None:
        """Only this end's errors are translated: what ``chunks`` raises is the other end's."""
        with self._errors(blob.digest):
            descriptor = create(temporary)
        try:
            size, encoded = self._write_chunks(descriptor, blob, chunks)
            if size != blob.size:
                reason = f"{size} {'or more ' if size > blob.size else ''}bytes came, not {blob.size}"
                raise DigestMismatch(self.name, blob.digest, reason)
            if not blob.digest.endswith(f":{encoded}"):
                raise DigestMismatch(self.name, blob.digest, f"the bytes that came are {encoded}")
            with self._errors(blob.digest):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write_chunks(
        self, descriptor: int, blob: Descriptor, chunks: Iterable[bytes | memoryview]
    ) -> tuple[int, str]:
        """Size and hash of what came; nothing beyond the blob's size is written."""
        hashed, size = hashlib.new(blob.digest.partition(":")[0]), 0
        for chunk in chunks:
            size += len(chunk)
            if size > blob.size:
                break
            hashed.update(chunk)
            with self._errors(blob.digest):
                write_all(descriptor, chunk)
        return size, hashed.hexdigest()

    def _blocks(self, file: FileIO, digest: str, offset: int) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(BLOCK))
        with self._errors(digest):
            file.seek(offset)
        while True:
            with self._errors(digest):
                count = file.readinto(buffer)
            if not count:
                return
            yield buffer[:count]

    def _referrer(self, entry: Descriptor, digest: str) -> tuple[str, Descriptor] | None:
        """The entry as a referrer, by its digest, if ``digest`` is its subject."""
        if entry.digest not in self._subjects:
            try:
                manifest = self._read_manifest(entry.digest, entry.digest, entry.media_type)
            except (NotFound, Unsupported, DigestMismatch):
                return None
            about = manifest.subject.digest if manifest.subject else ""
            self._subjects[entry.digest] = (about, manifest.descriptor)
        about, referrer = self._subjects[entry.digest]
        return (entry.digest, referrer) if about == digest else None
