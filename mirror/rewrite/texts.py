"""References in text of no format that is parsed: lists, scripts, templates, and strings within YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mirror.rewrite.arguments import built_with, set_by
from mirror.rewrite.commands import Command, commands_in, untagged
from mirror.rewrite.heredocs import heredocs_in
from mirror.rewrite.moves import Moves
from mirror.rewrite.spots import UNSURE, Spot
from mirror.rewrite.words import LATEST, SCHEME, Found, full_references, reference_at, role_of, spot_of

_KEY = re.compile(
    rf"""(?<![\w.-])["']?(?P<key>(?:[\w.-]*[_.-])?image|\w*Image|container|(?:\w+_)?IMAGE)["']?"""
    rf"""(?:\s*(?:[:?+]?=|[:=]{{1,2}})\s*["']?(?:\$\{{\w+:?-)?|\s*\(\s*["']|[ \t]+["'])"""
    rf"""(?:{SCHEME})?(?=[a-z0-9\[])"""
)
"""What a value that is an image stands behind: ``image:``, ``initImage =``, ``FOO_IMAGE=``, ``image('``."""
_SHORT = re.compile(r"(?<![\w+.-])(?:docker|docker-image)://(?=[a-z0-9\[])")
"""Behind such a scheme short names are images, too."""
_BAKED = re.compile(r"""(?<![\w-])["']?(?:tags|cache-to)["']?\s*[=:]\s*\[(?P<tags>[^\]]*)\]""")
_VALUE = re.compile(r"""(?<=["'=])(?=[a-z0-9])""")
_VALUE_ENDS = re.compile(r"""["',;)\s]|\Z""")
_MEANS_LATEST = frozenset({"image", "container"})
_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n(.*?)^[ \t]*\1", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a kind of text is read."""

    comment: str = ""
    """What begins one, at a line's start or behind white space."""
    lone_names: bool = False
    """Whether a key's value may be a name of one word, as ``alpine``."""
    is_script: bool = True
    """Whether a command's image may be such a name; in prose "docker run fails" names none."""
    is_list: bool = False
    """Whether a line is a reference."""
    names_alone: bool = False
    """Whether such a line may be a name without host, tag and digest."""
    is_folded: bool = False
    """Whether a line's end is a space, as in some of YAML's values."""
    is_bake: bool = False
    """Whether it is a file of ``docker buildx bake``: that builds and pushes its ``tags``."""


def spots_in_text(text: str, moves: Moves, manner: Manner) -> Iterator[Spot]:
    """Every reference to an image at an old place, in order; comments are left out."""
    return spots_without_comments(text, 0, len(text), moves, manner)


def spots_without_comments(text: str, start: int, end: int, moves: Moves, manner: Manner) -> Iterator[Spot]:
    """As spots_within, without what stands behind ``manner.comment``; heredocs as the files that they are."""
    at = start
    for heredoc in heredocs_in(text, start, end, manner.comment) if not manner.is_folded else ():
        yield from _uncommented(text, at, heredoc.start, moves, manner)
        yield from heredoc.spots(text, moves)
        at = heredoc.end
    yield from _uncommented(text, at, end, moves, manner)


def _uncommented(text: str, start: int, end: int, moves: Moves, manner: Manner) -> Iterator[Spot]:
    for piece_start, piece_end in _pieces(text, manner.comment, start, end):
        yield from spots_within(text, piece_start, piece_end, moves, manner)


def spots_in_fences(text: str, moves: Moves) -> Iterator[Spot]:
    """As spots_in_text, in the fenced blocks of Markdown; prose may speak of the past."""
    for block in _FENCE.finditer(text):
        yield from spots_without_comments(text, block.start(2), block.end(2), moves, Manner("#"))


def spots_within(text: str, start: int, end: int, moves: Moves, manner: Manner) -> list[Spot]:
    """Those between ``start`` and ``end``; each once, by who knows most about it."""
    spots: dict[int, Spot | None] = {}
    if manner.is_list:
        for found in _lines(text, start, end, manner):
            spots.setdefault(found.name.start, spot_of(text, found, moves, untagged=None))
    for built in _BAKED.finditer(text, start, end) if manner.is_bake else ():
        for found in _quoted(text, built.start("tags"), built.end("tags")):
            spots.setdefault(found.name.start, spot_of(text, found, moves, untagged=None, role="published"))
    commands = list(commands_in(text, start, end, lone_names=manner.is_script, is_folded=manner.is_folded))
    for at, spot in _commanded(text, commands, moves):
        spots.setdefault(at, spot)
    for found, tag in _keyed(text, start, end, manner):
        spots.setdefault(found.name.start, spot_of(text, found, moves, untagged=tag))
    for found in full_references(text, start, end):
        role = role_of(text, found)
        spots.setdefault(found.name.start, spot_of(text, found, moves, untagged=None, role=role))
    for found in _valued(text, start, end):
        at = found.name.start
        is_word = any(command.takes(at) for command in commands)
        if not is_word and (spot := spot_of(text, found, moves, untagged=None)):
            spots.setdefault(at, replace(spot, writing=None, why_not=UNSURE))
    return [spot for at in sorted(spots) if (spot := spots[at])]


def _commanded(text: str, commands: list[Command], moves: Moves) -> Iterator[tuple[int, Spot | None]]:
    """Where each image of theirs stands; None: it is at no old place."""
    for command in commands:
        for named in command.images:
            tag = untagged(named.found)
            yield named.found.name.start, spot_of(text, named.found, moves, untagged=tag, role=named.role)
        for spot in (*built_with(text, command.build, moves), *set_by(text, command.values, moves)):
            yield spot.start, spot


def _keyed(text: str, start: int, end: int, manner: Manner) -> Iterator[tuple[Found, str | None]]:
    for match in _KEY.finditer(text, start, end):
        found = reference_at(text, match.end())
        if found and (manner.lone_names or "/" in found.name.text or found.tag or found.digest):
            yield found, LATEST if match["key"] in _MEANS_LATEST else None
    for match in _SHORT.finditer(text, start, end):
        if found := reference_at(text, match.end()):
            yield found, LATEST


def _quoted(text: str, start: int, end: int) -> Iterator[Found]:
    for match in _VALUE.finditer(text, start, end):
        if found := reference_at(text, match.end()):
            yield found


def _valued(text: str, start: int, end: int) -> Iterator[Found]:
    """Whole values, be they of strings or behind ``=``, that look like an image with its tag."""
    for at in (start, *(match.end() for match in _VALUE.finditer(text, start, end))):
        found = reference_at(text, at)
        is_whole = found and (found.end == end or _VALUE_ENDS.match(text, found.end))
        if found and is_whole and "/" in found.name.text and (found.tag or found.digest):
            yield found


def _lines(text: str, start: int, end: int, manner: Manner) -> Iterator[Found]:
    for match in re.compile(r"^[ \t]*(?:[-*][ \t]+)?(\S+)", re.MULTILINE).finditer(text, start, end):
        found = reference_at(text, match.start(1))
        if (
            found
            and (found.has_variable or found.end >= match.end(1))
            and (manner.names_alone or found.tag or found.digest)
        ):
            yield found


def _pieces(text: str, comment: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What is left of the text without its comments."""
    if comment:
        for match in re.compile(rf"(?:^|(?<=\s)){re.escape(comment)}[^\n]*", re.MULTILINE).finditer(
            text, start, end
        ):
            yield start, match.start()
            start = match.end()
    yield start, end
