"""Take one tag away and leave everything else as it is, by what the registry can do."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import suppress

from registry.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, digest_of
from registry.errors import (
    CannotDelete,
    Denied,
    NotFound,
    Permanent,
    RegistryError,
    TagImmutable,
    Transient,
    Unauthorized,
)
from registry.manifest import Manifest
from registry.repository import Repository

_CONFIG = b'{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}'
_PLACE = "dev.sealift.deleted"
_NEVER = {
    "docker.io": "Docker Hub deletes tags on its website only, and by an API of its own",
    "ghcr.io": "GHCR deletes tags on GitHub's website only, and by GitHub's own API",
}
"""Registries that answer every deletion with a refusal, whatever the account may do."""
_A_RIGHT = (Unauthorized, Denied)


def tombstone(repository: str, tag: str) -> Manifest:
    """An image of nothing, which no other tag can be at: the same for the same tag each time."""
    config = Descriptor(OCI_CONFIG, digest_of(_CONFIG), len(_CONFIG))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.document(),
        "layers": [],
        "annotations": {_PLACE: f"{repository}:{tag}"},
    }
    return Manifest.parse(json.dumps(document).encode())


def is_tombstone(repository: str, tag: str, digest: str) -> bool:
    """Whether a tag is on its way to be deleted: what it was is gone, and nobody's push."""
    return tombstone(repository, tag).digest == digest


def delete_tag(repository: Repository, tag: str) -> None:
    """Delete ``tag`` and nothing else: other tags of its image, and the image itself, stay.

    Several exchanges; begun again after any of them it goes on. By tag where the registry can do that;
    else the tag is moved to its :func:`tombstone`, and that is deleted by its digest. It is moved only
    once the registry has shown that it deletes by digest, and back where it then does not.

    Raises:
        NotFound: there is no such tag.
        CannotDelete: the registry deletes nothing by this API.
        TagImmutable: this tag may not be touched.
    """
    try:
        repository.delete_manifest(tag)
    except TagImmutable:
        raise
    except _A_RIGHT as error:
        raise _as_cannot(repository, error) from error
    except NotFound as error:
        repository.resolve(tag)  # where the tag is there, it is the way of deleting that is not
        _delete_as_tombstone(repository, tag, error)
    except Permanent as error:
        _delete_as_tombstone(repository, tag, error)


def delete_for_good(repository: Repository, tag: str, attempt: Callable[[Callable[[], None]], None]) -> None:
    """:func:`delete_tag`, and the registry's word that the tag is no more; ``attempt`` repeats each of both.

    That it is gone already is what was wanted.
    """

    def delete() -> None:
        with suppress(NotFound):  # deleted, and the answer was lost
            delete_tag(repository, tag)

    def see() -> None:  # replicas may need a moment to say so
        with suppress(NotFound):
            held = repository.resolve(tag).digest
            what = f"{repository.name}:{tag}"
            raise Transient(repository.host, what, f"was deleted and is still there, at {held}")

    attempt(delete)
    attempt(see)


def _delete_as_tombstone(repository: Repository, tag: str, refusal: Permanent) -> None:
    _prove_deletion_by_digest(repository, refusal)
    marker = tombstone(repository.name, tag)
    held = repository.resolve(tag)
    before = repository.manifest(held.digest) if held.digest != marker.digest else None
    _hold_config(repository, marker.blobs[0])
    repository.put_manifest(tag, marker)
    try:
        with suppress(NotFound):  # deleted, and the answer was lost
            repository.delete_manifest(marker.digest)
        if _is_at(repository, tag, marker):  # a tag that outlives its manifest
            raise _cannot(repository, refusal, "what a tag is at may be deleted, the tag stays")
    except RegistryError:
        with suppress(RegistryError):
            if before is not None and _is_at(repository, tag, marker):  # else somebody has pushed meanwhile
                repository.put_manifest(tag, before)
        raise


def _is_at(repository: Repository, tag: str, manifest: Manifest) -> bool:
    try:
        return repository.resolve(tag).digest == manifest.digest
    except NotFound:
        return False


def _prove_deletion_by_digest(repository: Repository, refusal: Permanent) -> None:
    """Of a digest that nobody has: where that is not found, it would have been deleted."""
    try:
        repository.delete_manifest(f"sha256:{secrets.token_hex(32)}")
    except NotFound:
        return
    except _A_RIGHT as error:
        raise _as_cannot(repository, error) from error
    except Permanent as error:
        raise _cannot(repository, refusal, error.reason) from error


def _hold_config(repository: Repository, config: Descriptor) -> None:
    try:
        repository.blob_size(config.digest)
    except NotFound:
        upload = repository.start_upload(config)
        if upload is not None:
            repository.finish_upload(upload, config, (_CONFIG,))


def _as_cannot(repository: Repository, error: Permanent) -> Permanent:
    return _cannot(repository, error, error.reason) if repository.host in _NEVER else error


def _cannot(repository: Repository, error: Permanent, reason: str) -> CannotDelete:
    why = _NEVER.get(repository.host, "the registry does not delete by this API")
    return CannotDelete(error.end, error.what, f"{why} ({reason})", error.status, error.code)
