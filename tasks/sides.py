"""What only two-way mirrors have in the fleet file, as the engine's terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from config.fleet import Fleet, Mirror
from config.problems import Problem
from mirror.select import Selection
from mirror.spec import ALL_TARGETS, ANY, TARGETS, MirrorSpec
from registry.reference import LAYOUT, is_wildcard

Where = tuple[str | int, ...]


def two_way(spec: MirrorSpec, mirror: Mirror) -> MirrorSpec:
    """``spec`` as a two-way mirror; what is wrong with it :func:`side_problems` says."""
    found = _preferred(spec, mirror.prefer) if mirror.prefer else []
    return replace(
        spec,
        kind="two_way",
        two_way=True,
        source=ALL_TARGETS if spec.targets[0].repository.endswith(f"/{ANY}") else TARGETS,
        rule="prefer" if mirror.prefer else mirror.conflicts,
        prefer=found[0] if found else "",
        immutable=mirror.immutable,
        delete="mirror" if mirror.deletes == "propagate" else "never",
    )


def side_problems(spec: MirrorSpec, mirror: Mirror, fleet: Fleet, at: Where) -> Iterator[Problem]:
    """What keeps the targets from being sides, and what is wrong with the rules."""
    names = [target.repository for target in spec.targets]
    for place, target in enumerate(spec.targets):
        if target.repository.startswith(LAYOUT):
            text = "a folder cannot be a side, since not every worker sees the same one; name a repository"
            yield fleet.problem((*at, "targets", place), text)
        elif fault := next(filter(None, (_misfit(one, target.repository) for one in names[:place])), ""):
            yield fleet.problem((*at, "targets", place), fault)
    if mirror.prefer and len(_preferred(spec, mirror.prefer)) != 1:
        text = f"{mirror.prefer!r} is not one of the targets; write one of {', '.join(names)}"
        yield fleet.problem((*at, "prefer"), text)
    for place, pattern in enumerate(mirror.immutable):
        try:
            Selection((pattern,))
        except ValueError as error:
            yield fleet.problem((*at, "immutable", place), str(error))


def _misfit(first: str, side: str) -> str:
    """What keeps a side from being one beside another; empty if nothing does."""
    if first == side:
        return ""
    if is_wildcard(first) != is_wildcard(side):
        return f"beside {first} it is another kind of side: all sides are repositories, or all end with '/*'"
    mine, theirs = first.removesuffix(ANY), side.removesuffix(ANY)
    if is_wildcard(side) and (mine.startswith(theirs) or theirs.startswith(mine)):
        return f"{side} and {first} are within each other; use another prefix"
    return ""


def _preferred(spec: MirrorSpec, text: str) -> list[str]:
    return sides_named([target.repository for target in spec.targets], text)


def sides_named(repositories: Sequence[str], text: str) -> list[str]:
    """Those that ``text`` means: one of them in full, or all of a host."""
    return [text] if text in repositories else [one for one in repositories if one.partition("/")[0] == text]
