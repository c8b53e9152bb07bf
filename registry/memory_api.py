"""What an in-memory registry answers: distribution-spec 1.1, without the wire."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from registry.descriptor import MANIFEST_TYPES, OCI_INDEX, Descriptor, is_digest
from registry.manifest import MAX_MANIFEST_BYTES, Manifest, ManifestError
from registry.memory_limits import PullLimits
from registry.memory_store import Content, ErrorReply, Session, Store
from registry.reference import MalformedReference, check_repository, check_tag

_REPOSITORY = r"/v2/(?P<repository>.+)"
_ROUTES = {
    "ping": re.compile(r"/v2/?"),
    "catalog": re.compile(r"/v2/_catalog"),
    "tags": re.compile(_REPOSITORY + r"/tags/list"),
    "manifest": re.compile(_REPOSITORY + r"/manifests/(?P<item>[^/]+)"),
    "uploads": re.compile(_REPOSITORY + r"/blobs/uploads/?"),
    "upload": re.compile(_REPOSITORY + r"/blobs/uploads/(?P<item>[^/]+)"),
    "blob": re.compile(_REPOSITORY + r"/blobs/(?P<item>[^/]+)"),
    "referrers": re.compile(_REPOSITORY + r"/referrers/(?P<item>[^/]+)"),
}
_BYTE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
Deletes = bool | Literal["digests"]
_CONTENT_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Terms:
    """How this registry differs from others; :class:`registry.memory.MemoryRegistry` explains each."""

    referrers: bool = True
    sparse_index: bool = True
    immutable_tags: bool = False
    deletes: Deletes = True
    mounts: bool = True
    page_size: int = 1000
    username: str | None = None
    password: str = field(default="", repr=False)
    others: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further accounts: passwords by user name."""
    pulls: PullLimits | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``body`` is read while it is served, block by block."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Iterable[memoryview]
    repository: str = ""
    item: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; of a Content, ``length`` bytes from ``start`` are sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Content = b""
    start: int = 0
    length: int = 0

    @classmethod
    def of_json(cls, document: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Reply:
        body = json.dumps(document).encode()
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, body, length=len(body))

    @classmethod
    def of_error(cls, error: ErrorReply) -> Reply:
        """The error body of the distribution-spec ("Error Codes")."""
        document = {"errors": [{"code": error.code, "message": error.message, "detail": None}]}
        return cls.of_json(document, error.headers, error.status)

    def blocks(self) -> Iterator[bytes | memoryview]:
        if isinstance(self.body, Content):
            yield from self.body.blocks(self.start, self.length)
        elif self.length:
            yield self.body


def kind_of(path: str) -> str:
    """Which endpoint ``path`` is: ``manifest``, ``blob``, ``uploads`` (opens a session), ``upload`` ..."""
    path = path.partition("?")[0]
    return next((kind for kind, pattern in _ROUTES.items() if pattern.fullmatch(path)), "other")


class Api:
    """Serves one request at a time per thread; all state is in the store."""

    def __init__(self, store: Store, terms: Terms) -> None:
        self._store = store
        self._terms = terms
        self._endpoints: dict[tuple[str, str], Callable[[Request], Reply]] = {
            ("ping", "GET"): lambda _: Reply.of_json({}),
            ("catalog", "GET"): self._catalog,
            ("tags", "GET"): self._tags,
            ("manifest", "GET"): self._get_manifest,
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("blob", "GET"): self._get_blob,
            ("blob", "DELETE"): self._delete_blob,
            ("uploads", "POST"): self._start_upload,
            ("upload", "GET"): self._upload_status,
            ("upload", "PATCH"): self._patch_upload,
            ("upload", "PUT"): self._put_upload,
            ("upload", "DELETE"): self._cancel_upload,
            ("referrers", "GET"): self._referrers,
        }

    def serve(self, request: Request) -> Reply:
        """The answer; ErrorReply is the registry saying no."""
        self._authorize(request.headers.get("Authorization", ""))
        kind = kind_of(request.path)
        match = _ROUTES[kind].fullmatch(request.path) if kind != "other" else None
        if match is None or (kind == "referrers" and not self._terms.referrers):
            raise ErrorReply(404, "NOT_FOUND", "no such endpoint")
        endpoint = self._endpoints.get((kind, "GET" if request.method == "HEAD" else request.method))
        if endpoint is None:
            raise ErrorReply(405, "UNSUPPORTED", f"{request.method} is not supported here")
        names = match.groupdict()
        repository, item = names.get("repository", ""), names.get("item", "")
        if repository:
            _checked(check_repository, "NAME_INVALID", repository, repository)
        return endpoint(_routed(request, repository, item))

    def _authorize(self, authorization: str) -> None:
        if self._terms.username is None:
            return
        scheme, _, token = authorization.partition(" ")
        try:
            given = base64.b64decode(token) if scheme.lower() == "basic" else b""
        except binascii.Error:
            given = b""
        known = {self._terms.username: self._terms.password, **self._terms.others}
        if not any(hmac.compare_digest(given, f"{one}:{known[one]}".encode()) for one in known):
            challenge = {"WWW-Authenticate": 'Basic realm="registry"'}
            raise ErrorReply(401, "UNAUTHORIZED", "authentication required", challenge)

    def _catalog(self, request: Request) -> Reply:
        with self._store.lock:
            names = sorted(self._store.repositories)
        page, headers = self._page(request, names)
        return Reply.of_json({"repositories": page}, headers)

    def _tags(self, request: Request) -> Reply:
        with self._store.lock:
            tags = sorted(self._store.held(request.repository).tags)
        page, headers = self._page(request, tags)
        return Reply.of_json({"name": request.repository, "tags": page}, headers)

    def _page(self, request: Request, names: list[str]) -> tuple[list[str], dict[str, str]]:
        """At most ``n`` names after ``last``, and the Link to the rest."""
        wanted = request.query.get("n", str(self._terms.page_size))
        if not wanted.isdecimal():
            raise ErrorReply(400, "PAGINATION_NUMBER_INVALID", f"n={wanted} is not a number")
        names = [name for name in names if name > request.query.get("last", "")]
        count = min(int(wanted), self._terms.page_size)
        page = names[:count]
        if not page or len(names) == len(page):
            return page, {}
        return page, {"Link": f'<{request.path}?n={count}&last={quote(page[-1])}>; rel="next"'}

    def _get_manifest(self, request: Request) -> Reply:
        manifest = self._store.manifest(request.repository, request.item)
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
        if pulls := self._terms.pulls:
            told = pulls.pulled if request.method == "GET" else pulls.looked
            headers |= told(request.headers.get("Authorization", ""))
        return Reply(200, headers, manifest.content, length=manifest.size)

    def _put_manifest(self, request: Request) -> Reply:
        by_digest = is_digest(request.item)
        if not by_digest:
            _checked(check_tag, "TAG_INVALID", request.item)
        manifest = _manifest(request, request.item.partition(":")[0] if by_digest else "sha256")
        if by_digest and manifest.digest != request.item:
            raise ErrorReply(400, "DIGEST_INVALID", f"the body is {manifest.digest}")
        with self._store.lock:
            self._check_content(request.repository, manifest)
            self._check_tag_may_move(request.repository, request.item, manifest.digest)
            self._store.add_manifest(request.repository, request.item, manifest)
        location = f"/v2/{request.repository}/manifests/{manifest.digest}"
        headers = {"Location": location, "Docker-Content-Digest": manifest.digest}
        if manifest.subject and self._terms.referrers:
            headers["OCI-Subject"] = manifest.subject.digest
        return Reply(201, headers)

    def _check_content(self, repository: str, manifest: Manifest) -> None:
        held = self._store.repositories.get(repository)
        blobs = held.blobs & self._store.contents.keys() if held else set()
        # A layer with urls is fetched from there: registries take its manifest without it.
        missing = [blob.digest for blob in manifest.blobs if blob.digest not in blobs and not blob.urls]
        if not self._terms.sparse_index:
            manifests = held.manifests if held else {}
            missing += [child.digest for child in manifest.children if child.digest not in manifests]
        if missing:
            raise ErrorReply(400, "MANIFEST_BLOB_UNKNOWN", f"not in {repository}: {', '.join(missing)}")

    def _check_tag_may_move(self, repository: str, tag: str, digest: str) -> None:
        held = self._store.repositories.get(repository)
        if self._terms.immutable_tags and held and held.tags.get(tag, digest) != digest:
            raise ErrorReply(400, "TAG_INVALID", f"tag is immutable: {tag}")

    def _delete_manifest(self, request: Request) -> Reply:
        self._check_deletes()
        if self._terms.deletes == "digests":
            _digest(request.item)
        self._store.remove_manifest(request.repository, request.item)
        return Reply(202, {})

    def _check_deletes(self) -> None:
        if not self._terms.deletes:
            raise ErrorReply(405, "UNSUPPORTED", "deleting is not enabled")

    def _get_blob(self, request: Request) -> Reply:
        content = self._store.blob(request.repository, _digest(request.item))
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": request.item,
            "Accept-Ranges": "bytes",
        }
        wanted = _byte_range(request.headers.get("Range", ""), content.size)
        if wanted is None:
            return Reply(200, headers, content, length=content.size)
        first, last = wanted
        headers["Content-Range"] = f"bytes {first}-{last}/{content.size}"
        return Reply(206, headers, content, first, last - first + 1)

    def _delete_blob(self, request: Request) -> Reply:
        self._check_deletes()
        self._store.remove_blob(request.repository, _digest(request.item))
        return Reply(202, {})

    def _start_upload(self, request: Request) -> Reply:
        mount, origin = request.query.get("mount", ""), request.query.get("from", "")
        if mount and origin and self._terms.mounts and self._mounted(request.repository, mount, origin):
            return _created(request.repository, mount)
        digest = _digest(request.query["digest"]) if "digest" in request.query else None
        session = self._store.open_session(request.repository)
        if digest is None:
            return _accepted(session)
        try:
            return self._finish(session, request, digest)
        except (ErrorReply, OSError):
            # The client never learns of this session, so that nobody else would close it.
            self._drop(session)
            raise

    def _mounted(self, repository: str, digest: str, origin: str) -> bool:
        return self._store.link_blob(repository, _digest(digest), origin)

    def _upload_status(self, request: Request) -> Reply:
        return _accepted(self._store.session(request.repository, request.item), 204)

    def _patch_upload(self, request: Request) -> Reply:
        session = self._store.session(request.repository, request.item)
        with session.lock:
            _append(session, request)
        return _accepted(session)

    def _put_upload(self, request: Request) -> Reply:
        session = self._store.session(request.repository, request.item)
        return self._finish(session, request, _digest(request.query.get("digest", "")))

    def _finish(self, session: Session, request: Request, digest: str) -> Reply:
        with session.lock:
            _append(session, request)
            found = session.digest(digest.partition(":")[0])
            if found != digest:
                raise ErrorReply(400, "DIGEST_INVALID", f"the bytes are {found}")
            self._store.close_session(session)
            self._store.add_blob(request.repository, digest, session.close())
        return _created(request.repository, digest)

    def _cancel_upload(self, request: Request) -> Reply:
        self._drop(self._store.session(request.repository, request.item))
        return Reply(204, {})

    def _drop(self, session: Session) -> None:
        self._store.close_session(session)
        with session.lock:
            session.discard()

    def _referrers(self, request: Request) -> Reply:
        digest, wanted = _digest(request.item), request.query.get("artifactType", "")
        with self._store.lock:
            held = self._store.repositories.get(request.repository)
            manifests = list(held.manifests.values()) if held else []
        found: list[Descriptor] = [
            manifest.descriptor
            for manifest in manifests
            if manifest.subject
            and manifest.subject.digest == digest
            and wanted in {"", manifest.artifact_type}
        ]
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptor.document() for descriptor in found],
        }
        filters = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        return Reply.of_json(index, {"Content-Type": OCI_INDEX, **filters})


def _routed(request: Request, repository: str, item: str) -> Request:
    return Request(
        request.method, request.path, request.query, request.headers, request.body, repository, item
    )


def _checked(check: Callable[..., object], code: str, *values: str) -> None:
    try:
        check(*values)
    except MalformedReference as error:
        raise ErrorReply(400, code, str(error)) from error


def _digest(text: str) -> str:
    if not is_digest(text):
        raise ErrorReply(400, "DIGEST_INVALID", f"not a digest: {text!r}")
    return text


def _created(repository: str, digest: str) -> Reply:
    location = f"/v2/{repository}/blobs/{digest}"
    return Reply(201, {"Location": location, "Docker-Content-Digest": digest})


def _accepted(session: Session, status: int = 202) -> Reply:
    return Reply(status, _progress(session))


def _progress(session: Session) -> dict[str, str]:
    return {
        "Location": f"/v2/{session.repository}/blobs/uploads/{session.id}",
        "Range": f"0-{max(session.size - 1, 0)}",
        "Docker-Upload-UUID": session.id,
    }


def _append(session: Session, request: Request) -> None:
    """Take the body as the session's next bytes; 416 unless it starts where the last ones ended."""
    claim = request.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(claim)
    length = int(match[2]) - int(match[1]) + 1 if match else 0
    if claim and (match is None or int(match[1]) != session.size or length < 1):
        raise ErrorReply(416, "BLOB_UPLOAD_INVALID", f"{claim!r} is out of order", _progress(session))
    before = session.size
    for block in request.body:
        session.write(block)
    if claim and session.size - before != length:
        raise ErrorReply(400, "SIZE_INVALID", f"{session.size - before} bytes came as {claim!r}")


def _manifest(request: Request, algorithm: str) -> Manifest:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
    if media_type not in MANIFEST_TYPES:
        raise ErrorReply(400, "MANIFEST_INVALID", f"not a manifest's Content-Type: {media_type!r}")
    body = bytearray()
    for block in request.body:
        body += block
        if len(body) > MAX_MANIFEST_BYTES:
            raise ErrorReply(413, "MANIFEST_INVALID", f"a manifest is at most {MAX_MANIFEST_BYTES} bytes")
    try:
        return Manifest.parse(bytes(body), media_type, algorithm)
    except ManifestError as error:
        raise ErrorReply(400, "MANIFEST_INVALID", str(error)) from error


def _byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range (RFC 9110, 14.2); None: send everything."""
    match = _BYTE_RANGE.fullmatch(header)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
    else:
        first, last = max(size - int(match[2]), 0), size - 1
    if first > last:
        raise ErrorReply(
            416, "RANGE_INVALID", f"{header!r} of {size} bytes", {"Content-Range": f"bytes */{size}"}
        )
    return first, last
