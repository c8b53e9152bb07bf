"""Merge: what a tag of a two-way mirror is to be, from what each side has and what all had before. No I/O.

The base is the digest that all sides were last seen to have. A side that has another one has moved: one
that moved is followed by the others, and of several that moved to different digests nobody can know which
is right. So such a tag is left to a rule or to a person, and with it everything that a user may have pushed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from registry.descriptor import abridged

UNDATED = 0.0
Rule = Literal["hold", "newest", "prefer"]
"""What becomes of conflicts: nothing, the image that was made last wins, or one side does."""
Kind = Literal["take", "gone", "conflict", "deleted", "immutable"]
"""``take``: all are to have ``wanted``; ``gone``: no side has it. The others are left alone: several sides
moved apart (or one moved and another deleted); a side has deleted what nobody moved; it may not move."""


@dataclass(frozen=True, slots=True)
class Side:
    """A tag at one of the repositories."""

    name: str
    digest: str | None
    """None: there is no such tag."""
    has_met: bool = True
    """Whether it was one of those that had the base."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a tag is to be."""

    kind: Kind
    wanted: str | None = None
    """The digest that all sides are to have."""
    choices: tuple[str, ...] = ()
    """Of what is left alone: the digests that somebody may want, in the order of the sides."""
    rule: str = ""
    """What decided a conflict: ``newest``, ``prefer``, or ``resolve`` for a person; empty where none did."""


def merge(sides: Sequence[Side], base: str | None, *, is_immutable: bool = False) -> Verdict:
    """What the tag is to be.

    Sides that have not met the base bring what they have: where that is something else, it is for them as
    if all had moved apart. A tag that those who had it have all deleted begins anew.
    """
    met = [side for side in sides if side.has_met] if base else []
    if all(side.digest is None for side in met):
        met, base = [], None
    have = [side.digest for side in sides if side.digest is not None]
    if not have:
        return Verdict("gone")
    choices = _choices(sides, met, base)
    has_moved = any(side.digest not in {base, None} for side in met)
    has_deleted = any(side.digest is None for side in met)
    if is_immutable and has_moved:
        return Verdict("immutable", choices=tuple(dict.fromkeys(have)))
    if len(choices) > 1 or (choices and has_deleted):
        return Verdict("conflict", choices=choices)
    if has_deleted:
        return Verdict("deleted", choices=tuple(dict.fromkeys(have)))
    return Verdict("take", choices[0] if choices else base)


def _choices(sides: Sequence[Side], met: Sequence[Side], base: str | None) -> tuple[str, ...]:
    """What has come since the base; and the base itself, where only a side that has not met it differs."""
    moved = {side.digest for side in met} - {base, None}
    new = {side.digest for side in sides if side not in met} - {base, None}
    wanted = moved | new | ({base} if new and not moved else set())
    return tuple(dict.fromkeys(side.digest for side in sides if side.digest and side.digest in wanted))


def preferred(verdict: Verdict, sides: Iterable[Side], prefer: str) -> Verdict:
    """The conflict as the preferred side wants it, if it is one of those that differ.

    One that did not move has no say in what others moved to, and one that deleted does not win over a push.
    """
    digest = next((side.digest for side in sides if side.name == prefer), None)
    if verdict.kind != "conflict" or digest not in verdict.choices:
        return verdict
    return Verdict("take", digest, rule="prefer")


def newest(verdict: Verdict, made: Mapping[str, float]) -> Verdict:
    """The conflict as the image wants it that was made last, in Unix time by digest; no two may be."""
    if verdict.kind != "conflict":
        return verdict
    last = max(made[digest] for digest in verdict.choices)
    found = [digest for digest in verdict.choices if made[digest] == last]
    if len(found) > 1 or (last == UNDATED and len(verdict.choices) > 1):
        return verdict
    return Verdict("take", found[0], rule="newest")


def chosen(verdict: Verdict, sides: Iterable[Side], take: str) -> Verdict:
    """As a person has decided: everywhere what is at the side ``take``, whatever the others have.

    Nothing is decided where that side does not have the tag.
    """
    digest = next((side.digest for side in sides if side.name == take), None)
    if digest is None:
        return verdict
    return replace(verdict, kind="take", wanted=digest, choices=(), rule="resolve")


def told(verdict: Verdict, sides: Sequence[Side], base: str | None) -> str:
    """Why a tag is left alone, for people."""
    have = ", ".join(f"{side.name} has {short(side.digest)}" for side in sides)
    before = f"all had {short(base)}" if base else "they never were the same"
    if verdict.kind == "deleted":
        lost = " and ".join(side.name for side in sides if side.has_met and side.digest is None)
        return f"deleted in {lost}, where {before}; the others keep it"
    if verdict.kind == "immutable":
        return f"an immutable tag has moved: {have}; {before}"
    return f"conflict: {have}; {before}"


def short(digest: str | None) -> str:
    return abridged(digest) if digest else "no such tag"
