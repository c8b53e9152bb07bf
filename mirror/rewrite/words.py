"""References within text: what may begin one, what ends one, and what a variable makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mirror.rewrite.moves import Moves
from mirror.rewrite.spots import Role, Span, Spot, Whole
from registry.reference import MalformedReference, Reference

LATEST = "latest"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_LABELS = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)"
_PORT = r"(?::[0-9]{1,5})"
_HOST = rf"(?:{_LABELS}*{_PORT}|localhost|{_LABELS}+|\[[0-9A-Fa-f:.]+\]{_PORT}?)"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_REST = rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}|sha512:[0-9a-f]{{128}}))?"
_ANY = re.compile(rf"(?P<name>(?:{_HOST}/)?{_PATH}){_REST}")
SCHEME = r"(?:docker|docker-image|oci)://"
FULL = re.compile(rf"(?:(?<![\w+.-]){SCHEME}|(?<=:-)|(?<![\w./@:$}}%+-]))(?=(?P<all>{_HOST}/{_PATH}))")
"""Where in running text a reference with its host may begin; its scheme, if any, is in the match."""
_PLACEHOLDER = ("$", "{", "%", "<")
"""What the placeholders of shells, Compose, templates, pipelines and manuals begin with."""
_LATER = re.compile(r"[:@][\"']?[${%<]")
_GOES_ON = re.compile(r"[A-Za-z0-9_/+@:.*=-]")
_STOPS = re.compile(r"[.:,;]*(?:\s|$|[\"'`)\]}>|\\])")
"""What follows a reference at a sentence's end, or behind which a quote or a bracket closes."""
DEFAULTED = re.compile(r"\$\{\w+:?-(?P<default>[^}$]+)\}")
_OF_MIRROR = re.compile(r"\bsource:[ \t]*[\"']?\Z")
_HAS_HOST = re.compile(r"(?:[^/]*[.:][^/]*|localhost)/")
_NEAR = 40
_DEFAULT = re.compile(r"\$\{\w+:?-([^}$]*)\}")
"""A variable of a shell or of Compose, with what it is unless it is set."""


@dataclass(frozen=True, slots=True)
class Found:
    """A reference that was read off a text."""

    name: Span
    end: int
    """Behind tag and digest; behind the name where what follows is put in later."""
    tag: str | None = None
    digest: str | None = None
    has_variable: bool = False
    """Its tag is put in later; ``tag`` is then what it is unless something else is said."""


def has_host(text: str) -> bool:
    """Whether what may be a reference begins with a registry's host."""
    return _HAS_HOST.match(text) is not None


def reference_at(text: str, at: int) -> Found | None:
    """The reference that begins at ``at``; None where none does, or its repository is not written out."""
    match = _ANY.match(text, at)
    if match is None:
        return None
    name, tag, digest, end = (
        Span(at, match.end("name"), match["name"]),
        match["tag"],
        match["digest"],
        match.end(),
    )
    if text.startswith(_PLACEHOLDER, end):
        return Found(name, name.end, has_variable=True) if tag and not digest else None
    if _LATER.match(text, end) and not digest:
        return Found(name, name.end, None if tag else default_at(text, end + 1), has_variable=True)
    if tag and not digest:
        bare = tag.rstrip(".")  # a sentence ended with it
        end, tag = end - len(tag) + len(bare), bare
    if _GOES_ON.match(text, end) and not _STOPS.match(text, end):
        return None
    return Found(name, end, tag, digest)


def default_at(text: str, at: int) -> str | None:
    """The tag that the variable at ``at`` is unless it is set, if it alone makes up the tag."""
    match = _DEFAULT.match(text, at)
    if match is None or _GOES_ON.match(text, match.end()) or text.startswith(_PLACEHOLDER, match.end()):
        return None
    return match[1] if re.fullmatch(_TAG, match[1]) else None


def with_defaults(text: str) -> str:
    """``text`` as it is where no variable is set that has a default."""
    return _DEFAULT.sub(r"\1", text)


def spot_of(
    text: str, found: Found, moves: Moves, *, untagged: str | None, role: Role = "used"
) -> Spot | None:
    """What was found, where it is at an old place; ``untagged``: which tag is meant without one, if known."""
    old = parsed(found, untagged)
    new = moves.of(old) if old else None
    if old is None or new is None:
        return None
    start, shown = found.name.start, text[found.name.start : found.end]
    return Spot(
        start,
        line_of(text, start),
        f"{shown}:…" if found.has_variable else shown,
        old,
        new,
        Whole(found.name, found.end, not found.has_variable and not found.digest, found.tag is not None),
        role=role,
    )


def parsed(found: Found, untagged: str | None) -> Reference | None:
    """As a value; None where it looks like a reference and is none."""
    try:
        reference = Reference.parse(found.name.text)
    except MalformedReference:
        return None
    known = found.tag or found.digest or found.has_variable
    return replace(reference, tag=found.tag if known else untagged, digest=found.digest)


def line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def full_references(text: str, start: int, end: int) -> Iterator[Found]:
    """Every reference between ``start`` and ``end`` that names its host."""
    for match in FULL.finditer(text, start, end):
        found = reference_at(text, match.start("all"))
        if found and found.end <= end:
            yield found


def role_of(text: str, found: Found) -> Role:
    """Behind ``source:`` stands what a mirror reads."""
    at = found.name.start
    return "mirrored" if _OF_MIRROR.search(text, max(at - _NEAR, 0), at) else "used"
