"""What only two-way mirrors have in the fleet file, as the engine's terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from config.fleet import Fleet, Mirror
from config.problems import Problem
from mirror.select import Selection
from mirror.spec import TARGETS, MirrorSpec
from registry.reference import LAYOUT, is_wildcard

Where = tuple[str | int, ...]


def two_way(spec: MirrorSpec, mirror: Mirror) -> MirrorSpec:
    """``spec`` as a two-way mirror; what is wrong with it :func:`side_problems` says."""
    found = _preferred(spec, mirror.prefer) if mirror.prefer else []
    return replace(
        spec,
        kind="two_way",
        two_way=True,
        source=TARGETS,
        rule="prefer" if mirror.prefer else mirror.conflicts,
        prefer=found[0] if found else "",
        immutable=mirror.immutable,
    )


def side_problems(spec: MirrorSpec, mirror: Mirror, fleet: Fleet, at: Where) -> Iterator[Problem]:
    """What keeps the targets from being sides, and what is wrong with the rules."""
    for place, target in enumerate(spec.targets):
        if is_wildcard(target.repository):
            yield fleet.problem(
                (*at, "targets", place), "a two-way mirror is of one repository; name it without '*'"
            )
        elif target.repository.startswith(LAYOUT):
            yield fleet.problem((*at, "targets", place), "a folder cannot be a side; name a repository")
    if mirror.prefer and len(_preferred(spec, mirror.prefer)) != 1:
        names = ", ".join(target.repository for target in spec.targets)
        yield fleet.problem(
            (*at, "prefer"), f"{mirror.prefer!r} is not one of the targets; write one of {names}"
        )
    for place, pattern in enumerate(mirror.immutable):
        try:
            Selection((pattern,))
        except ValueError as error:
            yield fleet.problem((*at, "immutable", place), str(error))


def _preferred(spec: MirrorSpec, text: str) -> list[str]:
    return sides_named([target.repository for target in spec.targets], text)


def sides_named(repositories: Sequence[str], text: str) -> list[str]:
    """Those that ``text`` means: one of them in full, or all of a host."""
    return [text] if text in repositories else [one for one in repositories if one.partition("/")[0] == text]
