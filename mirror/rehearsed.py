"""Repositories as a rehearsal sees them: asked, and never written to.

Each answers as the real one would, had it been written to before: questions go to the registry unless what
the rehearsal has put there answers them, and every request that the run would make is counted. Blobs are
neither read nor sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from mirror.engine import Opener
from mirror.reading import Reading
from mirror.rehearsal import Rehearsal
from mirror.tally import PULL
from registry.descriptor import Descriptor
from registry.errors import NotFound, Refused
from registry.manifest import Manifest, ManifestError
from registry.reference import LAYOUT
from registry.referrers import MalformedReferrers, fallback_tag, merged
from registry.repository import Pieces, Repository, Upload


def rehearsed(rehearsal: Rehearsal) -> Opener:
    """The engine's way to repositories, as the rehearsal sees them."""

    def opened(name: str, /, *, gives_way: bool = False) -> Repository:  # noqa: ARG001 - a plan always does
        return RehearsedRepository(rehearsal, rehearsal.real(name))

    return opened


class RehearsedRepository:
    """One repository, and on top of it what the rehearsal has written there."""

    def __init__(self, rehearsal: Rehearsal, real: Repository) -> None:
        self._rehearsal, self._real = rehearsal, real
        self.name, self.host = real.name, real.host

    def tags(self, last: str | None = None) -> Iterator[list[str]]:
        pages = self._real.tags(last)
        while True:
            with self._rehearsal.counting(self.host):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def resolve(self, tag_or_digest: str) -> Descriptor:
        put = self._rehearsal.was_put(self._place("manifest", tag_or_digest))
        if isinstance(put, Descriptor):
            self._ask("HEAD", "manifest")
            return put
        return self._rehearsal.asked(
            self._real, "resolve", tag_or_digest, lambda: self._real.resolve(tag_or_digest)
        )

    def manifest(self, tag_or_digest: str) -> Manifest:
        return self._rehearsal.read(self._real, tag_or_digest)

    def put_manifest(self, tag_or_digest: str, manifest: Manifest) -> bool:
        self._ask("PUT", "manifest")
        put = Descriptor(manifest.media_type, manifest.digest, manifest.size)
        for name in (tag_or_digest, manifest.digest):
            self._rehearsal.put(self._place("manifest", name), put)
        if manifest.subject is None:
            return True
        return self._rehearsal.indexes_referrers(self._real, manifest.subject.digest)

    def delete_manifest(self, tag_or_digest: str) -> None:  # noqa: ARG002 - nothing is ever taken back here
        self._ask("DELETE", "manifest")

    def blob_size(self, digest: str) -> int:
        put = self._rehearsal.was_put(self._place("blob", digest))
        if isinstance(put, int):
            self._ask("HEAD", "blob")
            return put
        return self._rehearsal.asked(self._real, "blob", digest, lambda: self._real.blob_size(digest))

    def open_blob(
        self, blob: Descriptor, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes | memoryview]]:
        opened = self._really_opened if self._rehearsal.reads_blob(blob) else self._opened
        return opened(blob, offset)

    @contextmanager
    def _opened(self, blob: Descriptor, offset: int) -> Iterator[Iterator[bytes | memoryview]]:
        self._ask("GET", "blob")
        is_put = self._rehearsal.was_put(self._place("blob", blob.digest)) is not None
        if self._rehearsal.seeks_blobs and not is_put:
            self._rehearsal.blob_size(self._real, blob.digest)
        self._rehearsal.run.reads(self.host, blob.size - offset)
        yield iter(())

    @contextmanager
    def _really_opened(self, blob: Descriptor, offset: int) -> Iterator[Iterator[bytes | memoryview]]:
        with self._rehearsal.counting(self.host), self._real.open_blob(blob, offset) as blocks:
            yield blocks
        self._rehearsal.run.reads(self.host, blob.size - offset)

    def start_upload(self, blob: Descriptor, mount_from: str | None = None) -> Upload | None:
        self._ask("POST", "upload")
        if mount_from is None:
            return Upload("")
        self._rehearsal.run.mount(self.name, blob.size)
        self._rehearsal.put(self._place("blob", blob.digest), blob.size)
        return None

    def finish_upload(self, upload: Upload, blob: Descriptor, chunks: Iterable[bytes | memoryview]) -> None:  # noqa: ARG002 - all sessions are alike
        for _ in chunks:
            pass
        self._ask("PUT", "upload")
        self._rehearsal.run.writes(self.name, blob.size)
        self._rehearsal.put(self._place("blob", blob.digest), blob.size)

    def cancel_upload(self, upload: Upload) -> None:  # noqa: ARG002 - all sessions are alike
        self._ask("DELETE", "upload")

    @property
    def pieces(self) -> Pieces | None:
        return _RehearsedPieces(self, self._rehearsal) if self._real.pieces else None

    def note_of(self, upload: Upload) -> str | None:  # noqa: ARG002 - nobody goes on with it
        return None

    def noted(self, note: str) -> Upload:
        return Upload(note)

    def referrers(self, digest: str, *, has_tag: bool = True) -> list[Descriptor]:
        return self._rehearsal.asked(
            self._real,
            f"referrers {has_tag}",
            digest,
            lambda: self._real.referrers(digest, has_tag=has_tag),
        )

    def add_referrer(self, subject: str, referrer: Descriptor) -> None:
        """As the client does it, with what the rehearsal has put there."""
        tag = fallback_tag(subject)
        try:
            index = merged(self._listed(tag), referrer)
        except (MalformedReferrers, ManifestError) as error:
            raise Refused(self.host, f"{self.name}:{tag}", f"cannot list a referrer here: {error}") from error
        if index is not None:
            self._rehearsal.put(self._place("listed", tag), index)
            self.put_manifest(tag, index)

    def _listed(self, tag: str) -> Manifest | None:
        put = self._rehearsal.was_put(self._place("listed", tag))
        if isinstance(put, Manifest):
            self._ask(*PULL)
            return put
        try:
            return self.manifest(tag)
        except NotFound:
            return None

    def _ask(self, method: str, kind: str) -> None:
        if self.host != LAYOUT:
            self._rehearsal.run.asked(self.host, (method, kind))

    def _place(self, what: str, key: str) -> tuple[str, str, str]:
        return self.name, what, key


class _RehearsedPieces:
    """Uploads in pieces that send nothing."""

    def __init__(self, target: RehearsedRepository, rehearsal: Rehearsal) -> None:
        self._target, self._rehearsal = target, rehearsal

    def send(
        self,
        upload: Upload,
        blob: Descriptor,  # noqa: ARG002 - as Pieces has it
        start: int,
        end: int,
        chunks: Iterable[bytes | memoryview],
    ) -> Upload:
        for _ in chunks:
            pass
        self._rehearsal.run.asked(self._target.host, ("PATCH", "upload"))
        self._rehearsal.run.writes(self._target.name, end - start)
        return upload

    def progress(self, upload: Upload, blob: Descriptor) -> tuple[Upload, int | None]:  # noqa: ARG002 - as Pieces has it
        return upload, None

    def finish(self, upload: Upload, blob: Descriptor) -> None:  # noqa: ARG002 - all sessions are alike
        self._rehearsal.run.asked(self._target.host, ("PUT", "upload"))
        self._rehearsal.put((self._target.name, "blob", blob.digest), blob.size)


class RehearsedReading(Reading):
    """A blob that is opened where the run would open it, and not read."""

    _is_open = False

    def take(self, until: int) -> Iterator[memoryview]:
        if until > self._position and not self._is_open:
            self._is_open = True
            with self._source.open_blob(self._blob, self._position) as blocks:
                for _ in blocks:  # who sends them may be found out only now
                    pass
        self._position = until
        return iter(())
