"""Which digests a rollback goes back to, read from the history; and the run that does it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from mirror.ledger.history import Flip
from mirror.spec import TARGETS, MirrorSpec
from registry.descriptor import is_digest

_BEGINNING = re.compile(r"sha256:[0-9a-f]{1,64}|sha512:[0-9a-f]{1,128}")


class NoWayBack(Exception):
    """A tag cannot go back; the text names it, and says why."""


class WasNew(NoWayBack):
    """There was no such tag before."""


def rollback_of(spec: MirrorSpec, digests: Mapping[str, str], *, pin: bool) -> MirrorSpec:
    """The run that moves tags of ``spec`` to these digests, in all targets or in none, whatever else it says.

    What a target has lost comes from another one that has it; the source is not asked.
    """
    return replace(
        spec,
        kind="rollback",
        source=TARGETS,
        refs=tuple(digests.items()),
        finalize="all",
        newest=None,
        given="",
        trust_s=0,
        pin=pin,
    )


def digest_before(tag: str, flips: Sequence[Flip], targets: Collection[str], run: str = "") -> str:
    """What the tag was in ``targets`` before ``run`` moved it there, or before its last move.

    ``flips``: its own, newest first. A target in which the run did not move it had what it was moved to.

    Raises:
        NoWayBack: that is not remembered, was nothing, or not the same in every target.
    """
    flip = next((one for one in flips if run in {"", one.run} and _is_of(one, targets)), None)
    brought = [one for one in flips if run in {"", one.run} and one.previous.keys() & set(targets)]
    if flip is None and brought:
        raise NoWayBack(
            f"{tag}: run {brought[0].run} only brought it to where it was missing: nothing to go back to"
        )
    if flip is None:
        raise NoWayBack(f"{tag}: no move of it{f' by run {run}' if run else ''} is remembered")
    was = {target: flip.previous.get(target, flip.to) for target in targets}
    before = {digest: target for target, digest in was.items() if digest}
    if not before:
        raise WasNew(f"{tag}: it was new with run {flip.run}: there is nothing to go back to")
    if len(before) > 1:
        each = ", ".join(f"{digest} in {target}" for digest, target in before.items())
        raise NoWayBack(f"{tag}: before run {flip.run} it was {each}: say which with --to")
    return next(iter(before))


def _is_of(flip: Flip, targets: Collection[str]) -> bool:
    """Whether the flip moved the tag in those targets, and did more than bring it to one that came later."""
    own = [flip.previous[target] for target in targets if target in flip.previous]
    return any(own) or len(own) == len(targets)


def begins_digest(text: str) -> bool:
    """Whether ``text`` is a digest, or how one may begin."""
    return _BEGINNING.fullmatch(text) is not None


def meant(tag: str, names: Iterable[str]) -> str:
    """`` did you mean …`` with the names that are close to ``tag``; nothing where none is."""
    close = get_close_matches(tag, list(names), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def digest_named(tag: str, flips: Sequence[Flip], name: str) -> str:
    """The digest that is ``name``, or the one of the tag's history that begins so.

    Raises:
        NoWayBack: it is no digest, and none or several of the history begin with it.
    """
    if is_digest(name):
        return name
    known = {digest for one in flips for digest in (one.to, *one.previous.values()) if digest}
    found = [digest for digest in known if digest.startswith(name)]
    if len(found) != 1:
        how_many = "no digest" if not found else f"{len(found)} digests"
        raise NoWayBack(f"{tag}: {how_many} of its history begin{'' if found else 's'} with {name!r}")
    return found[0]
