"""A tag in a target: what it is there, putting it, and the registry's word that it is where it was put."""

from __future__ import annotations

from mirror.stage import Stage
from registry.errors import NotFound, Transient
from registry.manifest import Manifest
from registry.repository import Repository


def held(stage: Stage, tag: str, name: str) -> str | None:
    """The tag's digest in the target now; None where there is no such tag."""
    return stage.engine.patience.attempt(lambda: at(stage.targets[name], tag))


def at(target: Repository, tag: str) -> str | None:
    """The same, asked once."""
    try:
        return target.resolve(tag).digest
    except NotFound:
        return None


def put(stage: Stage, target: Repository, tag: str, manifest: Manifest) -> None:
    with stage.alone_with(target, manifest.digest):
        stage.engine.patience.attempt(lambda: target.put_manifest(tag, manifest))


def read_back(stage: Stage, target: Repository, tag: str, digest: str) -> None:
    """Transient where the tag is not where it was put; replicas may need a moment to say so."""

    def read() -> None:
        if (found := at(target, tag)) != digest:
            reason = f"was put at {digest} and reads back as {found or 'nothing (404)'}"
            raise Transient(target.host, f"{target.name}:{tag}", reason)

    stage.engine.patience.attempt(read)
