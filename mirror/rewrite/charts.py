"""References in several values: Helm's ``registry``, ``repository`` and ``tag``, Kustomize's ``images``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from mirror.rewrite.moves import Moves
from mirror.rewrite.nodes import Fields, span_of
from mirror.rewrite.spots import BY_VARIABLES, Span, Split, Spot, Whole
from mirror.rewrite.words import line_of
from registry.descriptor import is_digest
from registry.reference import MalformedReference, Reference, check_tag

_REPOSITORY = ("repository", "imageRepository", "image_repository", "image", "name")
_REGISTRY = ("registry", "imageRegistry", "image_registry")
_TAG = ("tag", "imageTag", "image_tag")
_DIGEST = ("digest", "imageDigest", "image_digest")
PLACES = frozenset({*_REPOSITORY, *_REGISTRY})
VERSIONS = frozenset({*_TAG, *_DIGEST})
"""Keys whose values are a part of an image's name, or say which one of it."""
_SHA_ONLY = ("sha",)
_SHA = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"\{\{|\$")
_KUSTOMIZE = frozenset({"newName", "newTag", "digest"})


def split(
    text: str, fields: Mapping[str, Span | None], key: str, moves: Moves, app_version: str | None
) -> Iterator[Spot]:
    """The image that a mapping of a chart's values is about, if it has its parts in several keys."""
    repository, registry, tag, digest = (
        _first(fields, names) for names in (_REPOSITORY, _REGISTRY, _TAG, _DIGEST)
    )
    has_parts = any(name in fields for name in (*_REGISTRY, *_TAG, *_DIGEST, *_SHA_ONLY))
    if repository is None or not (has_parts or key.lower().endswith("image")):
        return
    name = fields.get("name")
    if name and name.text == repository.text and not key.lower().endswith("image"):
        return  # {name: …, tag: …} may be anything
    if ":" in repository.text.rpartition("/")[2] or (not has_parts and "repository" not in fields):
        return  # whole by itself
    writing = Split(repository, registry, tag, digest)
    digest = digest or _first(fields, _SHA_ONLY)
    if registry and is_put_in(registry.text):
        yield from _by_variables(text, registry, repository, moves)
        return
    whole = f"{registry.text}/{repository.text}" if registry and registry.text else repository.text
    old = _reference(whole, tag.text if tag and tag.text else app_version, digest)
    if old and (new := moves.of(old)):
        yield Spot(repository.start, line_of(text, repository.start), str(old), old, new, writing)


def is_put_in(text: str) -> bool:
    """Whether it holds what is put in later: a variable, or a template's."""
    return _VARIABLE.search(text) is not None


def _by_variables(text: str, registry: Span, repository: Span, moves: Moves) -> Iterator[Spot]:
    """Where a chart puts the registry together it is taken for Docker Hub, so that ``--check`` tells."""
    old = _reference(repository.text, None, None)
    if old and (new := moves.of(old)):
        shown, line = f"{registry.text}/{repository.text}", line_of(text, repository.start)
        yield Spot(repository.start, line, shown, old, new, None, BY_VARIABLES)


def kustomized(text: str, fields: Fields, key: str, moves: Moves) -> Iterator[Spot]:
    """An entry of Kustomize's ``images``: ``name`` is what bases call it, ``newName`` what it becomes."""
    name = span_of(text, fields.get("name"))
    if key != "images" or name is None or not _KUSTOMIZE & fields.keys():
        return
    new_name, new_tag = span_of(text, fields.get("newName")), span_of(text, fields.get("newTag"))
    digest = span_of(text, fields.get("digest"))
    if new_name:
        yield from _kustomize_spot(text, new_name, new_tag, digest, moves)
    for spot in _kustomize_spot(text, name, new_tag, digest, moves):
        whole = Whole(name, name.end, is_pinnable=False)
        yield replace(spot, role="matched", writing=whole, must_prove=new_name is None)


def _kustomize_spot(
    text: str, name: Span, tag: Span | None, digest: Span | None, moves: Moves
) -> Iterator[Spot]:
    old = _reference(name.text, tag.text if tag else None, digest)
    if old and (new := moves.of(old)):
        writing = Split(name, tag=tag, digest=digest, is_pinnable=False)
        yield Spot(name.start, line_of(text, name.start), str(old), old, new, writing)


def _first(fields: Mapping[str, Span | None], names: tuple[str, ...]) -> Span | None:
    return next((span for name in names if (span := fields.get(name))), None)


def _reference(name: str, tag: str | None, digest: Span | None) -> Reference | None:
    try:
        bare = Reference.parse(name)
        tag, _, behind = (tag or "").partition("@")
        said = digest.text if digest and digest.text else behind
        if _SHA.fullmatch(said):
            said = f"sha256:{said}"
        return replace(bare, tag=check_tag(tag) if tag else None, digest=said if is_digest(said) else None)
    except MalformedReference:
        return None
