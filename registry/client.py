"""A repository behind the OCI distribution API 1.1 (distribution-spec 1.1), over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import httpx

from registry.answers import TooLarge, json_object, read_capped, wire_errors
from registry.blobs import blob_blocks, bytes_to_skip
from registry.descriptor import (
    MANIFEST_TYPES,
    OCI_INDEX,
    SCHEMA1_TYPES,
    Descriptor,
    digest_of,
    is_digest,
)
from registry.errors import (
    Denied,
    DigestMismatch,
    NotFound,
    Refused,
    Transient,
    Unauthorized,
    Unsafe,
    Unsupported,
)
from registry.exchange import Call, Content, Observer, Outgoing, Registry
from registry.manifest import ACCEPT, MAX_MANIFEST_BYTES, SCHEMA_1, Manifest, ManifestError
from registry.paging import linked_pages
from registry.pieces import RemotePieces, least_bytes
from registry.reference import MalformedReference, check_repository, check_tag
from registry.referrers import MalformedReferrers, fallback_tag, merged, parse_page
from registry.repository import Upload
from registry.uploads import check_stored, contradicts, end_upload, upload_url
from registry.urls import at

__all__ = ["Observer", "Registry", "RemoteRepository"]

PAGE_TAGS = 1000
MAX_PAGE_BYTES = 32 * 2**20
"""Registries that do not page send every tag at once, some with a digest each."""
MAX_TAGS = 1_000_000
MAX_REFERRERS = 10_000
_DIGEST_HEADER = "docker-content-digest"
_OK = frozenset({200})
_ABOUT_CONTENT = frozenset({"NAME_UNKNOWN", "NAME_INVALID", "MANIFEST_UNKNOWN", "DIGEST_INVALID"})
"""Codes of refusals that say nothing about the API that was asked."""


class RemoteRepository:
    """One repository of one registry; satisfies :class:`registry.repository.Repository`. Thread-safe."""

    def __init__(self, registry: Registry, repository: str, *, gives_way: bool = False) -> None:
        """``gives_way``: its pulls leave the reserve to others (:mod:`registry.gate`)."""
        check_repository(repository, f"{registry.host}/{repository}", registry.host)
        self._registry = registry
        self._repository = repository
        self._gives_way = gives_way
        self._pull = (f"repository:{repository}:pull",)
        self._push = (f"repository:{repository}:pull,push",)
        self._delete = (f"repository:{repository}:pull,push,delete",)

    def __repr__(self) -> str:
        return f"RemoteRepository({self.name!r})"

    @property
    def name(self) -> str:
        return f"{self._registry.host}/{self._repository}"

    @property
    def host(self) -> str:
        return self._registry.host

    def tags(self, last: str | None = None) -> Iterator[list[str]]:
        """See Repository. Raises Unsafe where the list has no end, leads elsewhere or holds no tags."""
        previous: list[str] = []
        total = 0
        while True:
            pages = 0
            for page in map(
                self._tags_in, linked_pages(self._registry, self._tags_call(last), MAX_PAGE_BYTES)
            ):
                if not page or page == previous:
                    return  # a registry that ignores ``last`` says the same again
                total += len(page)
                if total > MAX_TAGS:
                    raise Unsafe(self.host, self._repository, f"more than {MAX_TAGS} tags")
                yield page
                previous, pages = page, pages + 1
            if pages != 1 or len(previous) != PAGE_TAGS:
                return
            last = previous[-1]  # a full page without a Link: an old registry, or exactly the last one

    def resolve(self, tag_or_digest: str) -> Descriptor:
        """See Repository."""
        call = self._manifest_call("HEAD", tag_or_digest, accepted=frozenset({200, 405}))
        with self._registry.exchange(call) as response:
            described = self._described(response, tag_or_digest)
        if described is None:
            return _bare(self.manifest(tag_or_digest))
        return described

    def manifest(self, tag_or_digest: str) -> Manifest:
        """See Repository. Raises Unsupported for schema 1, unknown kinds and more than 4 MiB."""
        call = self._manifest_call("GET", tag_or_digest)
        with self._registry.exchange(call) as response:
            content = self._manifest_bytes(response, call.what)
            named = response.headers.get(_DIGEST_HEADER, "")
            media_type = _media_type(response)
        digest = tag_or_digest if is_digest(tag_or_digest) else named
        algorithm = digest.partition(":")[0] if is_digest(digest) else "sha256"
        if is_digest(digest) and digest_of(content, algorithm) != digest:
            raise DigestMismatch(self.host, call.what, f"its bytes are not those of {digest}")
        try:
            return Manifest.parse(content, media_type, algorithm)
        except ManifestError as error:
            raise Unsupported(self.host, call.what, str(error)) from error

    def put_manifest(self, tag_or_digest: str, manifest: Manifest) -> bool:
        """See Repository."""
        what = self._what(tag_or_digest)
        if is_digest(tag_or_digest) and tag_or_digest != manifest.digest:
            raise DigestMismatch(self.host, what, f"the manifest to be stored is {manifest.digest}")
        call = Call(
            "PUT",
            "manifest",
            self._url(f"manifests/{self._checked(tag_or_digest)}"),
            what,
            self._push,
            (("Content-Type", manifest.media_type),),
            Content(manifest.content),
            frozenset({200, 201, 202}),
        )
        try:
            with self._registry.exchange(call) as response:
                check_stored(self.host, what, response, manifest.digest)
                return manifest.subject is None or "oci-subject" in response.headers
        except DigestMismatch as error:
            # The bytes are those of the digest, we checked: docker-registry 2.8 answers so where the same
            # manifest is being put twice at once.
            if error.status is None:
                raise
            raise Transient(error.end, error.what, error.reason, error.status, error.code) from error

    def delete_manifest(self, tag_or_digest: str) -> None:
        """See Repository. Raises Refused where the registry deletes nothing."""
        call = Call(
            "DELETE",
            "manifest",
            self._url(f"manifests/{self._checked(tag_or_digest)}"),
            self._what(tag_or_digest),
            self._delete,
            accepted=frozenset({200, 202, 204}),
        )
        with self._registry.exchange(call):
            pass

    def blob_size(self, digest: str) -> int:
        """See Repository."""
        call = self._blob_call("HEAD", digest)
        with self._registry.exchange(call) as response:
            length = response.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(self.host, call.what, "the registry does not say how large the blob is")
        return int(length)

    @contextmanager
    def open_blob(self, blob: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes | memoryview]]:
        """See Repository. The iterator raises DigestMismatch where more or fewer bytes come than promised."""
        if 0 < offset >= blob.size:
            yield iter(())
            return
        call = self._blob_call("GET", blob.digest, offset)
        with self._registry.exchange(call) as response:
            skipped = bytes_to_skip(self.host, call.what, response, blob, offset)
            yield blob_blocks(self.host, call.what, response, blob.size - offset, skipped)

    def start_upload(self, blob: Descriptor, mount_from: str | None = None) -> Upload | None:
        """See Repository; ``mount_from`` is a repository's path without host.

        A registry that refuses the mount (and some do so as if the credentials were wrong) is asked for a
        plain session.
        """
        if mount_from is not None:
            check_repository(mount_from, mount_from, self.host)
            scopes = (*self._push, f"repository:{mount_from}:pull")
            query = f"?mount={blob.digest}&from={mount_from}"
            with suppress(Unauthorized, Denied, NotFound, Refused):
                return self._posted(blob, scopes, query)
        return self._posted(blob, self._push)

    def finish_upload(self, upload: Upload, blob: Descriptor, chunks: Iterable[bytes | memoryview]) -> None:
        """See Repository. Raises DigestMismatch where the registry got other bytes than ``blob`` promises."""
        body = Outgoing(chunks, blob.size)
        end_upload(self._registry, upload, blob, self._what(blob.digest), self._push, body)

    def cancel_upload(self, upload: Upload) -> None:
        """See Repository. A registry that lets nobody cancel forgets the session by itself, later."""
        url, is_own = upload_url(self._registry, upload.location, "")
        accepted = frozenset({200, 202, 204, 400, 403, 404, 405})
        call = Call("DELETE", "upload", url, "", self._delete, accepted=accepted, is_own=is_own)
        with suppress(Unauthorized, Denied), self._registry.exchange(call):
            pass

    @property
    def pieces(self) -> RemotePieces:
        return RemotePieces(self._registry, self._repository)

    def note_of(self, upload: Upload) -> str | None:
        return self.pieces.note(upload)

    def noted(self, note: str) -> Upload:
        return self.pieces.noted(note)

    def referrers(self, digest: str, *, has_tag: bool = True) -> list[Descriptor]:
        """See Repository."""
        self._checked_digest(digest)
        if self._registry.has_referrers_api:
            found = self._from_api(digest)
            if found is not None:
                return found
        index = self._fallback_index(digest) if has_tag else None
        return list(index.children) if index is not None and index.is_index else []

    def add_referrer(self, subject: str, referrer: Descriptor) -> None:
        """See Repository. Raises Refused where the tag holds something that is no index."""
        tag = fallback_tag(self._checked_digest(subject))
        try:
            index = merged(self._fallback_index(subject), referrer)
        except (MalformedReferrers, ManifestError) as error:
            raise Refused(self.host, self._what(tag), f"cannot list a referrer here: {error}") from error
        if index is not None:
            self.put_manifest(tag, index)

    def _tags_call(self, last: str | None) -> Call:
        after = f"&last={check_tag(last)}" if last is not None else ""
        url = self._url(f"tags/list?n={PAGE_TAGS}{after}")
        return Call("GET", "tags", url, self._repository, self._pull, (("Accept", "application/json"),))

    def _tags_in(self, content: bytes) -> list[str]:
        document = json_object(content)
        tags = document.get("tags", ()) if document is not None else ()
        if document is None or not isinstance(tags, list | tuple | None):
            raise Refused(self.host, self._repository, "its list of tags is malformed")
        try:
            return [check_tag(str(tag)) for tag in tags or ()]
        except MalformedReference as error:
            raise Unsafe(self.host, self._repository, f"its list of tags: {str(error)[:200]}") from error

    def _manifest_call(self, method: str, tag_or_digest: str, accepted: frozenset[int] = _OK) -> Call:
        return Call(
            method,
            "manifest",
            self._url(f"manifests/{self._checked(tag_or_digest)}"),
            self._what(tag_or_digest),
            self._pull,
            (("Accept", ACCEPT),),
            accepted=accepted,
            follows=True,
            gives_way=self._gives_way,
        )

    def _manifest_bytes(self, response: httpx.Response, what: str) -> bytes:
        try:
            with wire_errors(self.host, what):
                return read_capped(response, MAX_MANIFEST_BYTES)
        except TooLarge as error:
            raise Unsupported(self.host, what, f"a manifest of {error}") from error

    def _described(self, response: httpx.Response, tag_or_digest: str) -> Descriptor | None:
        """What a HEAD's answer says, None where it does not say it all."""
        media_type, named = _media_type(response), response.headers.get(_DIGEST_HEADER, "")
        what = self._what(tag_or_digest)
        if media_type in SCHEMA1_TYPES:
            raise Unsupported(self.host, what, SCHEMA_1)
        asked = tag_or_digest if is_digest(tag_or_digest) else named
        if contradicts(named, asked):
            raise DigestMismatch(self.host, what, "the registry says that this digest is another")
        length = response.headers.get("content-length", "")
        says_all = length.isascii() and length.isdigit() and is_digest(asked) and media_type in MANIFEST_TYPES
        return (
            Descriptor(media_type, asked, int(length)) if response.status_code == 200 and says_all else None
        )

    def _blob_call(self, method: str, digest: str, offset: int = 0) -> Call:
        return Call(
            method,
            "blob",
            self._url(f"blobs/{self._checked_digest(digest)}"),
            self._what(digest),
            self._pull,
            (("Range", f"bytes={offset}-"),) if offset else (),
            accepted=frozenset({200, 206}) if offset else _OK,
            follows=True,
            views=True,
        )

    def _posted(self, blob: Descriptor, scopes: tuple[str, ...], query: str = "") -> Upload | None:
        what = self._what(blob.digest)
        url = self._url(f"blobs/uploads/{query}")
        accepted = frozenset({201, 202}) if query else frozenset({202})
        with self._registry.exchange(
            Call("POST", "upload", url, what, scopes, accepted=accepted)
        ) as response:
            if response.status_code == 201:
                return None
            location, least = response.headers.get("location", ""), least_bytes(response)
        if not location:
            raise Refused(self.host, what, "an upload session without a Location", 202)
        return Upload(str(upload_url(self._registry, location, what, url)[0]), least)

    def _from_api(self, digest: str) -> list[Descriptor] | None:
        """By the referrers API; None where this registry has none, which is remembered."""
        what = self._what(digest)
        url = self._url(f"referrers/{digest}")
        call = Call("GET", "referrers", url, what, self._pull, (("Accept", OCI_INDEX),))
        found: list[Descriptor] = []
        try:
            for content in linked_pages(self._registry, call, MAX_MANIFEST_BYTES):
                found += parse_page(content)
                if len(found) > MAX_REFERRERS:
                    raise Unsafe(self.host, what, f"more than {MAX_REFERRERS} referrers")
        except (NotFound, Refused) as error:
            if error.code not in _ABOUT_CONTENT:
                self._registry.has_referrers_api = False
            return None
        except MalformedReferrers:
            return None
        return found

    def _fallback_index(self, digest: str) -> Manifest | None:
        try:
            return self.manifest(fallback_tag(digest))
        except NotFound:
            return None

    def _url(self, path: str) -> httpx.URL:
        return at(self._registry.base, f"/v2/{self._repository}/{path}")

    def _what(self, tag_or_digest: str) -> str:
        return f"{self._repository}{'@' if ':' in tag_or_digest else ':'}{tag_or_digest}"

    def _checked(self, tag_or_digest: str) -> str:
        return tag_or_digest if is_digest(tag_or_digest) else check_tag(tag_or_digest)

    def _checked_digest(self, digest: str) -> str:
        if not is_digest(digest):
            raise MalformedReference(f"{digest!r} is not a digest (sha256:<64 hex digits>)")
        return digest


def _media_type(response: httpx.Response) -> str:
    media_type: str = response.headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower()


def _bare(manifest: Manifest) -> Descriptor:
    return Descriptor(manifest.media_type, manifest.digest, manifest.size)
