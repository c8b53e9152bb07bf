"""Which tags: globs, regular expressions, version ranges, the newest N. No I/O.

The rules in full, with examples, are in docs/configuration.md ("Which tags").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import translate
from hashlib import sha256
from typing import Literal, Protocol

from mirror.semver import Range, Version, version_of
from mirror.spec import MirrorSpec
from registry.reference import MalformedReference, check_tag

Kind = Literal["exact", "glob", "regex", "semver"]
Created = Callable[[str], datetime | float]
"""When a tag's image was made; a float is Unix time in seconds."""

_DIGEST_TAG = re.compile(r"sha(?:256|512)-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?")
_KEEPER = "sealift-keep."
_KEEPER_TAG = re.compile(r"sealift-keep\.\d+(?:-\d+)?\..+")
MAX_TAG = 128
"""Characters (distribution-spec 1.1)."""
_GLOB = re.compile(r"[A-Za-z0-9._*?\[\]!-]+")
_WILDCARDS = frozenset("*?[")
_KEEPS = "a keeper tag of a former image: stays where it is"
_TRAVELS = "a signature, attestation or referrers tag: travels with its image"


class Mapper(Protocol):
    """``map``, or an executor's, which looks at several tags at a time."""

    def __call__(self, function: Callable[[str], float], items: Iterable[str], /) -> Iterable[float]: ...


def is_digest_tag(tag: str) -> bool:
    """Whether ``tag`` belongs to another image by its digest: cosign's tags and the referrers tag schema."""
    return _DIGEST_TAG.fullmatch(tag) is not None


def is_keeper_tag(tag: str) -> bool:
    """Whether ``tag`` is one of ours that keeps what another tag was: not to be mirrored."""
    return _KEEPER_TAG.fullmatch(tag) is not None


def keeper_tag(tag: str, slot: int, child: int | None = None) -> str:
    """The tag that keeps what ``tag`` was; ``child``: one of the manifests below it."""
    prefix = f"{_KEEPER}{slot}{'' if child is None else f'-{child}'}."
    name = f"{prefix}{tag}"
    return name if len(name) <= MAX_TAG else f"{prefix}{sha256(tag.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was selected, in the order the tags came, and for each other tag the rule that dropped it."""

    kept: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pattern:
    """One include or exclude: an exact tag, a glob, ``regex:…`` or ``semver:…``."""

    text: str
    kind: Kind = field(init=False)
    _test: Callable[[str, Version | None], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise ValueError, naming the pattern and what is wrong with it."""
        kind, test = _compiled(self.text)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "_test", test)

    def matches(self, tag: str, version: Version | None) -> bool:
        """``version`` is ``version_of(tag)``: the caller works it out once for all patterns."""
        return self._test(tag, version)


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Patterns in the order they are tried; exact tags, of which there may be thousands, by lookup."""

    exact: frozenset[str]
    others: tuple[Pattern, ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> _Patterns:
        patterns = [Pattern(text) for text in texts]
        others = [pattern for pattern in patterns if pattern.kind != "exact"]
        others.sort(key=lambda pattern: pattern.text == "*")  # a tag's rule is the most telling one
        return cls(frozenset(p.text for p in patterns if p.kind == "exact"), tuple(others))

    def first(self, tag: str, version: Version | None) -> str | None:
        """The text of the first pattern that matches."""
        if tag in self.exact:
            return tag
        return next((pattern.text for pattern in self.others if pattern.matches(tag, version)), None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tags of a repository: any of ``include``, none of ``exclude``, then the ``newest`` N."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    newest: int | None = None
    newest_by: Literal["semver", "created"] = "semver"
    _include: _Patterns = field(init=False, repr=False, compare=False)
    _exclude: _Patterns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise ValueError, naming the pattern or the key and what is wrong with it."""
        if not self.include:
            raise ValueError("include is empty and would select nothing; leave it out to select every tag")
        if self.newest is not None and self.newest < 1:
            raise ValueError(f"newest is {self.newest}; it must be at least 1, or left out")
        if self.newest_by not in {"semver", "created"}:
            raise ValueError(f"newest_by is {self.newest_by!r}; use 'semver' or 'created'")
        object.__setattr__(self, "_include", _Patterns.parse(self.include))
        object.__setattr__(self, "_exclude", _Patterns.parse(self.exclude))

    @classmethod
    def of(cls, spec: MirrorSpec) -> Selection:
        return cls(spec.include, spec.exclude, spec.newest, spec.newest_by)

    @property
    def streamable(self) -> bool:
        """Whether pages of tags can be selected one at a time: ``newest`` needs them all."""
        return self.newest is None

    @property
    def exact(self) -> tuple[str, ...]:
        """The tags that ``include`` names one by one and ``exclude`` leaves, in their order."""
        named = dict.fromkeys(text for text in self.include if text in self._include.exact)
        return tuple(tag for tag in named if self._exclude.first(tag, version_of(tag)) is None)

    def literals(self) -> tuple[str, ...] | None:
        """The tags, where they are known without a listing; None where one is needed."""
        return self.exact if not self._include.others and self.newest is None else None

    def choose(self, tags: Iterable[str], created: Created | None = None, over: Mapper = map) -> Choice:
        """Select among ``tags``; each counts once.

        ``created`` is needed for ``newest_by: created`` only, and asked once for each tag it ranks,
        by way of ``over``. Where ``newest`` is given, ``tags`` must be the whole repository's.
        """
        rules: dict[str, str] = {}
        ranked: dict[str, Version | None] = {}
        seen = dict.fromkeys(tags)
        for tag in seen:
            version = version_of(tag)
            pattern, rule = self._judge(tag, version)
            if rule:
                rules[tag] = rule
            elif self.newest is not None and tag not in self._include.exact:
                if self.newest_by == "semver" and version is None and pattern != "*":
                    continue  # a pattern names it, and it has no place among versions
                ranked[tag] = version
        if self.newest is not None:
            beyond = (
                self._older(ranked) if self.newest_by == "semver" else self._earlier(ranked, created, over)
            )
            rules.update(beyond)
        return Choice(
            tuple(tag for tag in seen if tag not in rules),
            tuple((tag, rules[tag]) for tag in seen if tag in rules),
        )

    def _judge(self, tag: str, version: Version | None) -> tuple[str | None, str]:
        """The pattern that selects ``tag`` and, if it is dropped, the rule."""
        if is_keeper_tag(tag):
            return None, _KEEPS
        if tag not in self._include.exact and is_digest_tag(tag):
            return None, _TRAVELS
        pattern = self._include.first(tag, version)
        if pattern is None:
            return None, "no include pattern matches"
        excluded = self._exclude.first(tag, version)
        return pattern, f"excluded by {excluded}" if excluded is not None else ""

    def _older(self, ranked: dict[str, Version | None]) -> Iterator[tuple[str, str]]:
        """Those that are no versions, or not one of the newest; equal versions stand or fall together."""
        versions = sorted({version for version in ranked.values() if version is not None}, reverse=True)
        wanted = frozenset(versions[: self.newest])
        for tag, version in ranked.items():
            if version is None:
                yield tag, "not a version, and only the newest versions are wanted"
            elif version not in wanted:
                yield tag, f"older than the newest {self.newest} versions"

    def _earlier(
        self, ranked: Iterable[str], created: Created | None, over: Mapper
    ) -> Iterator[tuple[str, str]]:
        if created is None:
            raise ValueError("newest_by: created needs the images' dates")
        names = list(ranked)
        dates = dict(zip(names, over(lambda tag: _seconds(created(tag)), names), strict=True))
        for tag in sorted(names, key=lambda tag: (-dates[tag], tag))[self.newest :]:
            yield tag, f"made before the newest {self.newest} images"


def _seconds(moment: datetime | float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


def _compiled(text: str) -> tuple[Kind, Callable[[str, Version | None], bool]]:
    prefix, colon, rest = text.partition(":")
    if not colon:
        return _compiled_name(text)
    if prefix == "regex":
        search = _regex(rest, text).search
        return "regex", lambda tag, _: search(tag) is not None
    if prefix == "semver":
        versions = _range(rest, text)
        return "semver", lambda _, version: version is not None and version in versions
    raise ValueError(f"pattern {text!r}: {prefix!r} is no kind of pattern; use 'regex:' or 'semver:'")


def _compiled_name(text: str) -> tuple[Kind, Callable[[str, Version | None], bool]]:
    if not _WILDCARDS.intersection(text):
        try:
            check_tag(text)
        except MalformedReference as error:
            raise ValueError(
                f"pattern {text!r}: neither a tag nor a glob; a version range starts with 'semver:', "
                "a regular expression with 'regex:'"
            ) from error
        if is_keeper_tag(text):
            raise ValueError(f"pattern {text!r}: {_KEEPS}; name the tag that it keeps")
        return "exact", lambda tag, _: tag == text
    if not _GLOB.fullmatch(text) or not _is_closed(text):
        raise ValueError(
            f"pattern {text!r}: not a glob; it may hold letters, digits, '.', '_', '-', '*', '?', "
            "'[…]' and '[!…]'"
        )
    match = re.compile(translate(text)).match
    return "glob", lambda tag, _: match(tag) is not None


def _is_closed(glob: str) -> bool:
    """Whether every ``[`` has its ``]``: fnmatch takes a lone one as itself, which no tag holds."""
    return "[" not in re.sub(r"\[!?[^\]]+\]", "", glob)


def _regex(expression: str, text: str) -> re.Pattern[str]:
    if not expression:
        raise ValueError(f"pattern {text!r}: the regular expression is missing")
    try:
        return re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern {text!r}: not a regular expression: {error}") from error


def _range(expression: str, text: str) -> Range:
    if not expression.strip():
        raise ValueError(f"pattern {text!r}: the version range is missing; 'semver:*' is any version")
    try:
        return Range.parse(expression)
    except ValueError as error:
        raise ValueError(f"pattern {text!r}: {error}") from error
