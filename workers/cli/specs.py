"""``SOURCE --to [REGION=]TARGET …`` as one MirrorSpec; everything that can be wrong is said here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from config.checks import PLATFORM, REGION_NAME, RESERVED
from mirror.spec import DEFAULT_REGION, EVERYWHERE, Finalize, MirrorSpec, Target
from registry.reference import LAYOUT, MalformedReference, Reference, Wildcard, is_wildcard

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
    if is_wildcard(source):
        return _all_below(Wildcard.parse(source), to, terms), ""
    origin = _placed(Reference.parse(source))
    targets = [_target(text) for text in to]
    if terms.tags or terms.exclude or terms.newest:
        return _many(origin, targets, terms), ""
    note = ""
    if origin.tag is None and origin.digest is None:
        origin = origin.at(DEFAULT_TAG)
        note = f'No tag was given: taking "{DEFAULT_TAG}". For all of them: --tags "*"'
    return _one(origin, targets, terms), note


def spec_of_list(name: str, to: Sequence[str], terms: Terms) -> MirrorSpec:
    """For a list of references of any registries: each keeps its repository's name below the targets.

    Raises MalformedReference.
    """
    for text in to:
        if not is_wildcard(text):
            raise MalformedReference(
                f"{text!r} is one repository; every repository of the list needs its own: write {text}/*"
            )
    return _checked(_terms(name, EVERYWHERE, [_wild_target(text) for text in to], terms))


def check_region(region: str) -> str:
    """Return ``region``; MalformedReference unless a queue can be named so."""
    if region in RESERVED:
        raise MalformedReference(f"{region!r} is a name of Sealift's own queues; choose another region name")
    if not _REGION.fullmatch(region):
        raise MalformedReference(f"{region!r} is not a region's name (small letters, digits and '-')")
    return region


def _all_below(source: Wildcard, to: Sequence[str], terms: Terms) -> MirrorSpec:
    """Every repository below the prefix, under the part of its name that the wildcard stands for."""
    from tasks.terms import misfit

    if source.host == LAYOUT:
        raise MalformedReference(f"{source}: folders are not searched for layouts; name them one by one")
    if not (terms.tags or terms.exclude or terms.newest):
        raise MalformedReference(f"{source} is many repositories: say which tags of each, as in --tags '*'")
    targets = [_wild_target(text) for text in to]
    for target in targets:
        if fault := misfit(str(source), target.repository):
            raise MalformedReference(fault)
    return _checked(_terms(source.prefix.rstrip("/") or source.host, str(source), targets, terms))


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
    return _checked(_spec(origin, targets, terms))


def _checked(spec: MirrorSpec) -> MirrorSpec:
    """Return ``spec``; MalformedReference where its patterns are none."""
    from mirror.select import Selection

    try:
        Selection.of(spec)
    except ValueError as error:
        raise MalformedReference(str(error)) from error
    return spec


def _spec(origin: Reference, targets: list[tuple[str, Reference]], terms: Terms) -> MirrorSpec:
    name = Path(origin.repository).name if origin.is_layout else origin.repository
    return _terms(name, origin.name, [Target(target.name, region) for region, target in targets], terms)


def _terms(name: str, source: str, targets: Sequence[Target], terms: Terms) -> MirrorSpec:
    for platform in terms.platforms:
        if not _PLATFORM.fullmatch(platform):
            raise MalformedReference(
                f"{platform!r} is not a platform (os/architecture[/variant], as linux/arm64)"
            )
    return MirrorSpec(
        name=name,
        source=source,
        targets=tuple(dict.fromkeys(targets)),
        include=terms.tags or ("*",),
        exclude=terms.exclude,
        newest=terms.newest,
        platforms=terms.platforms,
        referrers=terms.referrers,
        finalize=terms.finalize,
        ad_hoc=True,
    )


def _target(text: str) -> tuple[str, Reference]:
    """``[REGION=]TARGET``."""
    region, name = _region_of(text)
    target = _placed(Reference.parse(name))
    if target.digest:
        raise MalformedReference(
            f"{text!r}: a target is named by its tag; its digest follows from the source"
        )
    return region, target


def _wild_target(text: str) -> Target:
    """``[REGION=]PREFIX/*``; one repository is left as it is."""
    region, name = _region_of(text)
    if not is_wildcard(name):
        return Target(_placed(Reference.parse(name)).name, region)
    wildcard = Wildcard.parse(name)
    if wildcard.host == LAYOUT:
        folder = _placed(Reference(LAYOUT, wildcard.prefix))
        return Target(f"{folder.name}/*", region)
    return Target(str(wildcard), region)


def _region_of(text: str) -> tuple[str, str]:
    """Region and the rest: a folder's name may hold ``=``, a region's name no ``:`` or ``/``."""
    before, equals, after = text.partition("=")
    if equals and not before.startswith(LAYOUT) and "/" not in before:
        return check_region(before), after
    return DEFAULT_REGION, text


def _placed(reference: Reference) -> Reference:
    """A layout's folder from the root: workers have a working directory of their own."""
    if not reference.is_layout:
        return reference
    folder = str(Path(reference.repository).expanduser().absolute())
    if ":" in folder or "@" in folder:
        raise MalformedReference(f"{folder}: a layout folder's path may not hold ':' or '@'")
    return replace(reference, repository=folder)
