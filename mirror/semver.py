"""Versions in tags and npm's version ranges.

The grammar and the treatment of pre-releases are node-semver's (its README, "Ranges"): a pre-release
is in a range only if the range itself names a pre-release of the same major.minor.patch. The ranges of
the ``semantic-version`` library differ there (``<2.0.0-rc.1`` finds nothing, ``=1.0.0-rc.1`` also takes
1.0.0), hence this module.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

Identifier = tuple[int, int, str]
RELEASE: tuple[Identifier, ...] = ((2, 0, ""),)
"""Stands where a pre-release would: above all of them."""
_LOWEST: tuple[Identifier, ...] = ((0, 0, ""),)
"""The pre-release ``-0``: nothing of that major.minor.patch is below it."""

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_TAG_VERSION = re.compile(
    rf"v?([0-9]{{1,18}})(?:\.([0-9]{{1,18}})(?:\.([0-9]{{1,18}}))?)?(?:-({_IDENTIFIERS}))?"
)
_X = r"x|X|\*|[0-9]{1,18}"
_PARTIAL = rf"v?({_X})(?:\.({_X})(?:\.({_X})(?:-({_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?)?)?"
_SIMPLE = re.compile(rf"(\^|~|>=|<=|>|<|=|)({_PARTIAL})")
_HYPHEN = re.compile(rf"\s*({_PARTIAL})\s+-\s+({_PARTIAL})\s*")
_LOOSE_OPERATOR = re.compile(r"(~>?|\^|>=|<=|>|<|=)\s*")


class Version(NamedTuple):
    """Compares as semver 2.0.0 says; equal for ``1.2``, ``1.2.0`` and ``v1.2.0``."""

    major: int
    minor: int = 0
    patch: int = 0
    pre: tuple[Identifier, ...] = RELEASE

    @property
    def core(self) -> tuple[int, int, int]:
        return (self.major, self.minor, self.patch)

    @property
    def is_prerelease(self) -> bool:
        return self.pre != RELEASE


def version_of(tag: str) -> Version | None:
    """The version that ``tag`` is, None if it is none.

    A leading ``v``, missing parts (``1.25``) and leading zeros (``22.04``) are fine, as in node-semver's
    loose mode; what follows ``-`` is a pre-release (``1.25-alpine`` is below ``1.25``).
    """
    match = _TAG_VERSION.fullmatch(tag)
    if match is None:
        return None
    major, minor, patch, pre = match.groups()
    return Version(int(major), int(minor or 0), int(patch or 0), _prerelease(pre))


_Compare = Callable[[Version, Version], bool]


@dataclass(frozen=True, slots=True)
class Comparator:
    """One side of a range, such as ``>=1.2.0``."""

    compare: _Compare
    bound: Version


@dataclass(frozen=True, slots=True)
class Range:
    """Alternatives, each a list of comparators that must all hold."""

    alternatives: tuple[tuple[Comparator, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Range:
        """Raise ValueError, naming the part, unless ``text`` is a range of npm's grammar."""
        return cls(tuple(_alternative(part) for part in text.split("||")))

    def __contains__(self, version: Version) -> bool:
        return any(_holds(comparators, version) for comparators in self.alternatives)


def _holds(comparators: tuple[Comparator, ...], version: Version) -> bool:
    if not all(one.compare(version, one.bound) for one in comparators):
        return False
    if not version.is_prerelease:
        return True
    return any(one.bound.is_prerelease and one.bound.core == version.core for one in comparators)


def _prerelease(text: str | None) -> tuple[Identifier, ...]:
    if text is None:
        return RELEASE
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in text.split("."))


class _Partial(NamedTuple):
    """A version in a range; None for each part that is left out or ``x``, ``X``, ``*``."""

    major: int | None
    minor: int | None
    patch: int | None
    pre: tuple[Identifier, ...]

    @property
    def low(self) -> Version:
        return Version(self.major or 0, self.minor or 0, self.patch or 0, self.pre)

    @property
    def above(self) -> Version:
        """The first version behind all that a partial version stands for."""
        major, minor = self.major or 0, self.minor
        return Version(major + 1) if minor is None else Version(major, minor + 1)

    @property
    def is_partial(self) -> bool:
        return self.patch is None


def _alternative(text: str) -> tuple[Comparator, ...]:
    if hyphen := _HYPHEN.fullmatch(text):
        low, high = _partial(hyphen, 1), _partial(hyphen, 6)
        upper = _below(high.above) if high.is_partial else [Comparator(operator.le, high.low)]
        return (Comparator(operator.ge, low.low), *(upper if high.major is not None else ()))
    found: list[Comparator] = []
    for part in _LOOSE_OPERATOR.sub(lambda match: match[1].replace("~>", "~"), text).split():
        match = _SIMPLE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not a version range (as >=1.2, ^1.2, ~1.2.3, 1.x, 1.2 - 1.4)")
        found += _simple(match[1], _partial(match, 2))
    return tuple(found)


def _partial(match: re.Match[str], group: int) -> _Partial:
    major, minor, patch = (
        None if part is None or part in "xX*" else int(part)
        for part in match.group(group + 1, group + 2, group + 3)
    )
    if (major is None and minor is not None) or (minor is None and patch is not None):
        raise ValueError(f"{match[group]!r} has a number after a wildcard")
    return _Partial(major, minor, patch, RELEASE if patch is None else _prerelease(match[group + 4]))


def _simple(sign: str, wish: _Partial) -> list[Comparator]:
    """What ``sign`` and a version mean as comparators: node-semver's tables, in its order."""
    if wish.major is None:
        return [Comparator(operator.lt, Version(0, pre=_LOWEST))] if sign in {"<", ">"} else []
    at_least = Comparator(operator.ge, wish.low)
    if sign == "^":
        return [at_least, *_below(_caret_end(wish))]
    if sign == "~":
        return [at_least, *_below(_Partial(wish.major, wish.minor, None, RELEASE).above)]
    if not wish.is_partial:
        return [Comparator(_SIGNS[sign], wish.low)]
    partial: dict[str, list[Comparator]] = {
        ">": [Comparator(operator.ge, wish.above)],
        ">=": [at_least],
        "<": _below(wish.low),
        "<=": _below(wish.above),
    }
    return partial.get(sign, [at_least, *_below(wish.above)])


_SIGNS: dict[str, _Compare] = {
    "": operator.eq,
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def _caret_end(wish: _Partial) -> Version:
    """The first version behind ``^``: where the leftmost part that is not zero would change."""
    if wish.major or wish.minor is None:
        return Version((wish.major or 0) + 1)
    if wish.minor or wish.patch is None:
        return Version(0, wish.minor + 1)
    return Version(0, 0, wish.patch + 1)


def _below(end: Version) -> list[Comparator]:
    """Below ``end`` and below its pre-releases too, which a plain ``<`` would let in."""
    return [Comparator(operator.lt, end._replace(pre=_LOWEST))]
