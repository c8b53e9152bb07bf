"""The seam between engine and wire: a repository, whether behind HTTP or in a folder.

``registry.client.RemoteRepository`` and ``registry.layout.LayoutRepository`` satisfy it. Every method
is one exchange, sent once: retrying is the caller's business. All raise :mod:`registry.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from registry.descriptor import Descriptor
from registry.manifest import Manifest

BLOCK = 2**20
"""Bytes moved at once: below it system calls dominate, above it nothing is gained (docs/performance.md)."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An open upload session; ``location`` may be signed and is a secret: never log it."""

    location: str
    least_bytes: int = 0
    """What the registry takes as a piece at least, the last one excepted."""

    def __repr__(self) -> str:
        return "Upload(location=...)"


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """Repositories of one page in the registry's order, as references name them without the host."""

    names: tuple[str, ...]
    following: str | None
    """What leads to the next page; None: there is none."""


class Pieces(Protocol):
    """Uploads in pieces: of what has arrived nothing is sent again, whoever goes on with the session."""

    def send(
        self, upload: Upload, blob: Descriptor, start: int, end: int, chunks: Iterable[bytes | memoryview]
    ) -> Upload:
        """Send bytes ``start`` to ``end`` (excluded) of the blob; returns the session as it goes on.

        ``chunks`` as for ``finish_upload``. Refused or NotFound where the registry takes no pieces, not
        this size of them, or not here.
        """
        ...

    def progress(self, upload: Upload, blob: Descriptor) -> tuple[Upload, int | None]:
        """The session as it goes on and how many bytes have arrived; None where the registry does not say.

        NotFound where the session is no more.
        """
        ...

    def finish(self, upload: Upload, blob: Descriptor) -> None:
        """All bytes have been sent: make them the blob."""
        ...


class Source(Protocol):
    """What is read: ``name`` is ``host/repository`` or ``oci:DIR``, ``host`` the registry's name."""

    @property
    def name(self) -> str: ...

    @property
    def host(self) -> str: ...

    def tags(self, last: str | None = None) -> Iterator[list[str]]:
        """Every tag after ``last``, page by page, in the registry's order; one exchange a page."""
        ...

    def resolve(self, tag_or_digest: str) -> Descriptor:
        """The manifest's media type, digest and size, by HEAD (by GET where HEAD gives no digest)."""
        ...

    def manifest(self, tag_or_digest: str) -> Manifest:
        """The manifest, its digest checked against the one asked for or the one the registry names."""
        ...

    def blob_size(self, digest: str) -> int:
        """Size in bytes, by HEAD; NotFound where the repository has no such blob."""
        ...

    def open_blob(
        self, blob: Descriptor, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes | memoryview]]:
        """Stream the bytes from ``offset``, **unverified**, in blocks of at most BLOCK bytes.

        A block may be a view of a buffer that the next one overwrites: use it or copy it first. Errors of
        this end rise from the iterator as RegistryError of this end, so that a copy blames the right one.
        """
        ...

    def referrers(self, digest: str, *, has_tag: bool = True) -> list[Descriptor]:
        """What says it is about ``digest``: by the referrers API, else by the tag schema (spec 1.1).

        Without ``has_tag`` the tag schema's tag is known not to be there, and is not asked for.
        """
        ...


class Repository(Source, Protocol):
    """One that can be written, too."""

    def put_manifest(self, tag_or_digest: str, manifest: Manifest) -> bool:
        """Store the bytes verbatim.

        Returns whether the registry indexes its ``subject`` by itself (``OCI-Subject``); True where there
        is no subject.
        """
        ...

    def delete_manifest(self, tag_or_digest: str) -> None: ...

    def start_upload(self, blob: Descriptor, mount_from: str | None = None) -> Upload | None:
        """Open a session, or mount the blob from ``mount_from``, a repository of the same registry.

        None: mounted, nothing to send. With a registry that answers 202 to a mount, that session is used.
        """
        ...

    def finish_upload(self, upload: Upload, blob: Descriptor, chunks: Iterable[bytes | memoryview]) -> None:
        """Send the whole blob in one PUT. The bytes are not verified here; the registry may verify them.

        Whatever ``chunks`` raises propagates unchanged, after the connection is closed.
        """
        ...

    def cancel_upload(self, upload: Upload) -> None:
        """Delete the session; a registry that has forgotten it is fine."""
        ...

    @property
    def pieces(self) -> Pieces | None:
        """None where every upload is sent whole."""
        ...

    def note_of(self, upload: Upload) -> str | None:
        """What another process needs to go on with the session or to cancel it; None where that is secret."""
        ...

    def noted(self, note: str) -> Upload:
        """The session that was noted; it may be gone."""
        ...

    def add_referrer(self, subject: str, referrer: Descriptor) -> None:
        """Merge ``referrer`` into the tag-schema index of ``subject``, for registries without the API.

        Read, merge, write: callers serialise it per repository and subject (the spec leaves a race here).
        """
        ...
