"""Which keys of a mirror go with which mode; what needs the grammar of references is not checked here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from config.problems import Problem

if TYPE_CHECKING:
    from config.fleet import Fleet, Mirror

_ONLY_TWO_WAY = ("conflicts", "prefer", "immutable", "deletes")
_OF_DELETES = ("delete_share", "delete_after")
_NOT_TWO_WAY = {
    "source": "a two-way mirror has none: name every repository under targets",
    "read_from": "a two-way mirror reads from whichever side has it; leave it out",
    "delete": "a two-way mirror has no source; with `deletes: propagate` its sides follow each other",
    "trust_ledger_for": "a two-way mirror must look at every side to see pushes; leave it out",
}


def mode_problems(fleet: Fleet) -> Iterator[Problem]:
    """What is missing in each mirror, or does not belong there."""
    for place, mirror in enumerate(fleet.mirrors):
        found = _of_two_way(mirror) if mirror.mode == "two_way" else _of_mirror(mirror)
        for key, text in found:
            where = ("mirrors", place, key)
            if key in mirror.model_fields_set:
                yield fleet.problem(where, text)
            else:
                at = fleet.problem(where, text)
                yield Problem(at.file, at.line, where, text)


def _of_mirror(mirror: Mirror) -> Iterator[tuple[str, str]]:
    if mirror.source is None:
        yield "source", "is missing; add it"
    for key in _ONLY_TWO_WAY:
        if key in mirror.model_fields_set:
            yield key, "belongs to a mirror with mode: two_way; leave it out"


def _of_two_way(mirror: Mirror) -> Iterator[tuple[str, str]]:
    for key, text in _NOT_TWO_WAY.items():
        if key in mirror.model_fields_set:
            yield key, text
    for key in _OF_DELETES:
        if key in mirror.model_fields_set and mirror.deletes != "propagate":
            yield key, "belongs to `deletes: propagate`; add that, or leave it out"
    if len(mirror.targets) < 2:
        yield "targets", "a two-way mirror has at least two repositories: each of them is a side"
    if mirror.prefer is not None and mirror.conflicts == "newest":
        yield "prefer", "beside conflicts: newest; one rule decides, leave one of them out"
