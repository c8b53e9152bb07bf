"""``SOURCE --to [REGION=]TARGET …`` as one MirrorSpec; everything that can be wrong is said here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from config.checks import CONTROL, PLATFORM, REGION_NAME
from mirror.spec import DEFAULT_REGION, Finalize, MirrorSpec, Target
from registry.reference import LAYOUT, MalformedReference, Reference

DEFAULT_TAG = "latest"
_REGION = re.compile(REGION_NAME)
_PLATFORM = re.compile(PLATFORM)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the options of ``mirror`` and ``plan`` say besides source and targets."""

    tags: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    newest: int | None = None
    platforms: tuple[str, ...] = ()
    referrers: bool = True
    finalize: Finalize = "all"


def spec_from(source: str, to: Sequence[str], terms: Terms) -> tuple[MirrorSpec, str]:
    """The spec, and a line to say when something was assumed (else empty).

    Raises MalformedReference, whose text is for the user.
    """
    origin = _placed(Reference.parse(source))
    targets = [_target(text) for text in to]
    if terms.tags or terms.exclude or terms.newest:
        return _many(origin, targets, terms), ""
    note = ""
    if origin.tag is None and origin.digest is None:
        origin = origin.at(DEFAULT_TAG)
        note = f'No tag was given: taking "{DEFAULT_TAG}". For all of them: --tags "*"'
    return _one(origin, targets, terms), note


def check_region(region: str) -> str:
    """Return ``region``; MalformedReference unless a queue can be named so."""
    if region == CONTROL:
        raise MalformedReference(f"{region!r} is the name of Sealift's own queue; choose another region name")
    if not _REGION.fullmatch(region):
        raise MalformedReference(f"{region!r} is not a region's name (small letters, digits and '-')")
    return region


def _one(origin: Reference, targets: list[tuple[str, Reference]], terms: Terms) -> MirrorSpec:
    """One tag or digest of the source, perhaps under another name in the targets."""
    names = {target.tag or origin.tag for _, target in targets}
    if None in names:
        raise MalformedReference(
            f"{origin} has no tag to keep: give each target one, as in --to HOST/NAME:TAG"
        )
    if len(names) > 1:
        raise MalformedReference(
            f"the targets name different tags ({', '.join(sorted(filter(None, names)))}); "
            "give all the same, or mirror once for each"
        )
    (name,) = names
    for _, target in targets:
        if target.name == origin.name and name == origin.tag:
            raise MalformedReference(f"{target.name}:{name} is the source itself; name another target")
    pair = (str(name), origin.digest or str(origin.tag))
    return replace(_spec(origin, targets, terms), refs=(pair,))


def _many(origin: Reference, targets: list[tuple[str, Reference]], terms: Terms) -> MirrorSpec:
    """The tags that the patterns select, under their own names."""
    if origin.tag or origin.digest:
        raise MalformedReference(
            f"{origin} names one image already; leave out its tag, or --tags and the like"
        )
    for _, target in targets:
        if target.tag:
            raise MalformedReference(
                f"{target}: tags keep their names with --tags; leave out ':{target.tag}'"
            )
        if target.name == origin.name:
            raise MalformedReference(f"{target.name} is the source itself; name another target")
    spec = _spec(origin, targets, terms)
    from mirror.select import Selection

    try:
        Selection.of(spec)
    except ValueError as error:
        raise MalformedReference(str(error)) from error
    return spec


def _spec(origin: Reference, targets: list[tuple[str, Reference]], terms: Terms) -> MirrorSpec:
    for platform in terms.platforms:
        if not _PLATFORM.fullmatch(platform):
            raise MalformedReference(
                f"{platform!r} is not a platform (os/architecture[/variant], as linux/arm64)"
            )
    return MirrorSpec(
        name=Path(origin.repository).name if origin.is_layout else origin.repository,
        source=origin.name,
        targets=tuple(dict.fromkeys(Target(target.name, region) for region, target in targets)),
        include=terms.tags or ("*",),
        exclude=terms.exclude,
        newest=terms.newest,
        platforms=terms.platforms,
        referrers=terms.referrers,
        finalize=terms.finalize,
    )


def _target(text: str) -> tuple[str, Reference]:
    """``[REGION=]TARGET``; a folder's name may hold ``=``, a region's name no ``:`` or ``/``."""
    before, equals, after = text.partition("=")
    region = DEFAULT_REGION
    if equals and not before.startswith(LAYOUT) and "/" not in before:
        region, text = check_region(before), after
    target = _placed(Reference.parse(text))
    if target.digest:
        raise MalformedReference(
            f"{text!r}: a target is named by its tag; its digest follows from the source"
        )
    return region, target


def _placed(reference: Reference) -> Reference:
    """A layout's folder from the root: workers have a working directory of their own."""
    if not reference.is_layout:
        return reference
    folder = str(Path(reference.repository).expanduser().absolute())
    if ":" in folder or "@" in folder:
        raise MalformedReference(f"{folder}: a layout folder's path may not hold ':' or '@'")
    return replace(reference, repository=folder)
