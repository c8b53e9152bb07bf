"""Which of a mirror's registries clients in a region should pull from, in which order, and which not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mirror.current import Currency
from mirror.ledger.measured import Reach, best_first
from mirror.spec import ANY, MirrorSpec
from registry.descriptor import Platform
from registry.reference import DOCKER_HUB, LAYOUT

SHARED_HOSTS = frozenset(
    {
        DOCKER_HUB,
        "gcr.io",
        "ghcr.io",
        "public.ecr.aws",
        "quay.io",
        "registry.gitlab.com",
    }
)
"""Registries where anybody may have a repository of any name that is free: what a name means there is not for
us to say of names that the mirror is not about."""
MOST_NAMED = 3
MOST_TEXT = 160
_PARENT = f"/{ANY}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the mirror's registries, as the place to pull from."""

    place: str
    """``host/repository``; of a wildcard ``host/prefix``, below which the repositories are."""
    reach: Reach
    is_upstream: bool = False
    """Whether references name it; else it stands in for one that they name."""
    left_out: str = ""
    """Why clients should not ask it; empty: they should."""
    unresolved: str = ""
    """Why it should not say which digest a tag is; empty: it may."""

    @property
    def host(self) -> str:
        return self.place.partition("/")[0]

    @property
    def path(self) -> str:
        """The repository, or what comes before it; may be empty."""
        return self.place.partition("/")[2]

    @property
    def is_shared(self) -> bool:
        return self.host in SHARED_HOSTS

    @property
    def why(self) -> str:
        """What its place in the order comes from."""
        reach = self.reach
        if reach.standing != "up":
            return "not measured lately" if reach.last is None or not reach.fresh else "its last probe failed"
        latency = "" if reach.latency_s is None else f"{reach.latency_s * 1000:.0f} ms"
        speed = "" if not reach.bytes_per_second else f"{reach.bytes_per_second / 1e6:.1f} MB/s"
        return f"measured: {', '.join(part for part in (latency, speed) if part) or 'up'}"

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "place": self.place,
            "is_upstream": self.is_upstream,
            "left_out": self.left_out or None,
            "resolves": not (self.left_out or self.unresolved),
            "unresolved": self.unresolved or None,
            "standing": self.reach.standing,
            "latency_s": self.reach.latency_s,
            "bytes_per_second": self.reach.bytes_per_second,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """What is said to every client of the region, whatever it reads its configuration from."""

    mirror: str
    region: str
    is_wildcard: bool
    candidates: tuple[Candidate, ...]
    """The best first; those left out at the end."""

    @property
    def upstreams(self) -> tuple[Candidate, ...]:
        return tuple(one for one in self.candidates if one.is_upstream)

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        return tuple(one for one in self.candidates if not one.left_out)

    @property
    def left_out(self) -> tuple[Candidate, ...]:
        return tuple(one for one in self.candidates if one.left_out)

    def without(self, reasons: Mapping[str, str]) -> Choice:
        """The same with some more left out: by place the reason."""
        found = [replace(one, left_out=one.left_out or reasons.get(one.place, "")) for one in self.candidates]
        return replace(self, candidates=tuple(sorted(found, key=lambda one: bool(one.left_out))))


def choose(
    spec: MirrorSpec,
    region: str,
    reaches: Mapping[str, Reach],
    known: Mapping[str, Currency],
    platforms: Sequence[str] = (),
) -> Choice:
    """By what was measured from the region (``reaches``, by host) and what targets are known to hold.

    ``platforms``: those that the clients run; empty: any. What nothing tells apart stays in the fleet file's
    order, the region's own targets first, the source last.
    """
    own = sorted(spec.targets, key=lambda target: target.region != region)
    names = [target.repository for target in own]
    if not spec.two_way:
        names.append(spec.source)
    found = [
        _candidate(spec, name, reaches, known.get(name, Currency()), platforms)
        for name in names
        if not name.startswith(LAYOUT)
    ]
    by_host = {one.host: one.reach for one in found}
    rank = {reach.host: at for at, reach in enumerate(best_first(by_host.values()))}
    found.sort(key=lambda one: (bool(one.left_out), rank[one.host]))
    return Choice(spec.name, region, spec.is_wildcard, tuple(found))


def _candidate(
    spec: MirrorSpec, name: str, reaches: Mapping[str, Reach], known: Currency, platforms: Sequence[str]
) -> Candidate:
    host = name.partition("/")[0]
    reach = reaches.get(host, Reach("", host))
    is_source = name == spec.source
    one = Candidate(name.removesuffix(_PARENT), reach, is_upstream=is_source or spec.two_way)
    why = next(_against(spec, reach, known, platforms, is_source=is_source), "")
    if why or is_source:
        return replace(one, left_out=why)
    return replace(one, unresolved=next(_doubts(spec, known), ""))


def _against(
    spec: MirrorSpec, reach: Reach, known: Currency, platforms: Sequence[str], *, is_source: bool
) -> Iterator[str]:
    """Reasons for leaving it out, the weightiest first."""
    if reach.standing == "down":
        yield f"down as seen from there: {plain(reach.reason) or 'it does not answer'}"
    if is_source:
        return
    if not known.is_known:
        yield "no run has brought the mirror's tags there yet"
    if known.behind or known.more_behind:
        named = sorted(known.behind)[:MOST_NAMED]
        more = len(known.behind) + known.more_behind - len(named)
        some = f"{', '.join(named)}{f' and {more} more' if more else ''}" if named else f"{more} tags"
        yield f"behind: {some} not current there"
    if known.wrong:
        wrong = ", ".join(f"{count} {word}" for word, count in known.wrong.items())
        yield f"not whole: tags found {wrong} when it was verified"
    if lacking := _lacking(spec, platforms):
        yield lacking


def _lacking(spec: MirrorSpec, platforms: Sequence[str]) -> str:
    """What of the images the mirror does not copy."""
    if not spec.platforms:
        return ""
    held = [Platform.parse(one) for one in spec.platforms]
    short = [one for one in platforms if not any(have.covers(Platform.parse(one)) for have in held)]
    if platforms and not short:
        return ""
    only = ", ".join(spec.platforms)
    if short:
        return f"partial: it holds {only}, and not {', '.join(short)}"
    return f"partial: it holds only {only}; give --platform if that is what clients run"


def _doubts(spec: MirrorSpec, known: Currency) -> Iterator[str]:
    """Reasons why it should not say what tags are."""
    if spec.finalize != "all":
        yield "its tags move on their own (finalize: each)"
    if known.is_unsure:
        yield "the last run was not through with all tags"
    if known.apart:
        yield f"tags moved apart, and nobody has decided: {', '.join(sorted(known.apart)[:MOST_NAMED])}"


def plain(text: str) -> str:
    """One line that is safe in a comment of any format: what a registry answered may be in it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MOST_TEXT else f"{line[:MOST_TEXT]}…"
