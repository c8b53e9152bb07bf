"""The tags of one repository as a run is to take them: selected, in portions, with where the next begins."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from mirror.created import UNDATED, created_in
from mirror.engine import Engine
from mirror.ledger.gone import Listing
from mirror.manifests import Manifests
from mirror.overdue import close_unselected, follow_up
from mirror.retry import Patience
from mirror.select import Selection, is_digest_tag
from mirror.spec import MirrorSpec
from mirror.telling import tell_attempt
from mirror.threads import carrying
from registry.errors import NotFound, Transient
from registry.repository import Source

_DIGEST_TAGS = "sha256-"
COMPARED: tuple[tuple[str, str], ...] = ()
"""The batch without tags in which a verifying run compares its targets' lists of tags with the source's."""
Portion = tuple[str, Sequence[tuple[str, str]], bool]


def portions(engine: Engine, run: str, spec: MirrorSpec, cursor: str) -> Iterator[Portion]:
    """(new cursor, (target tag, source ref) pairs, whether that was all) of the repository of ``spec``.

    ``cursor`` is the last tag that was listed before, empty at first.
    """
    sample = spec.verification.sample if spec.verification else 0
    if not sample or spec.refs:
        yield from _portions(engine, run, spec, cursor)
        return
    pairs = [pair for _, found, _ in _portions(engine, run, spec, "") for pair in found]
    chosen = random.Random(f"{run} {spec.name}")  # noqa: S311 - not a secret; asked again it says the same
    yield "", chosen.sample(pairs, min(sample, len(pairs))), True


def _portions(engine: Engine, run: str, spec: MirrorSpec, cursor: str) -> Iterator[Portion]:
    selection = Selection.of(spec)
    # Of many repositories, exact tags are looked for: that one has no such tag is no failure.
    exact = selection.literals() if not spec.rest else None
    if exact is not None and not spec.refs and spec.kind == "two_way":
        close_unselected(engine, run, spec, set(exact))
    if spec.refs or exact is not None:
        yield "", spec.refs or [(tag, tag) for tag in exact or ()], True
        return
    if spec.is_two_way:
        yield "", _union(engine, run, spec), True
        return
    source = engine.open_source(run, spec)
    pages = _pages(source, engine.patience, cursor)
    listing = engine.ledger.gone.listing(run, spec, from_the_start=not cursor)
    if not selection.streamable:
        tags = [tag for page in pages for tag in page]
        listing.saw(tags)
        listing.over()
        engine.ledger.sources.add_digest_tags(
            run, source.name, [tag for tag in tags if is_digest_tag(tag)], complete=True
        )
        with ThreadPoolExecutor(engine.limits.copy_threads) as pool:
            # By digest and from the cache: landing needs the same manifests, and each is a pull only once.
            created = created_in(source, Manifests(engine, source).named)
            choice = selection.choose(tags, carrying(created), pool.map)
        engine.dropped(choice.dropped)
        yield "", [(tag, tag) for tag in choice.kept], True
        return
    yield from _streamed(engine, run, selection, source, _shown(pages, listing), cursor)


def _union(engine: Engine, run: str, spec: MirrorSpec) -> list[tuple[str, str]]:
    """The tags that any side has, selected, and those that all have lost since they agreed on them.

    A side without the repository has none. Raises RegistryError where a side cannot be listed.
    """
    sides = [_listed(engine, target.repository) for target in spec.targets]
    listed = set[str]().union(*sides)
    digest_tags = sorted(tag for tag in listed if is_digest_tag(tag))
    for target in spec.targets:
        engine.ledger.sources.add_digest_tags(run, target.repository, digest_tags, complete=True)
    with ThreadPoolExecutor(engine.limits.copy_threads) as pool:
        choice = Selection.of(spec).choose(sorted(listed), carrying(_dates(engine, run, spec)), pool.map)
    engine.dropped(choice.dropped)
    lost = follow_up(engine, run, spec, sides, choice.kept)
    return [(tag, tag) for tag in (*choice.kept, *lost)]


def _dates(engine: Engine, run: str, spec: MirrorSpec) -> Callable[[str], float]:
    """When a tag's image was made: of what the sides have, the one that was made last."""
    sides = [engine.open_repository(target.repository) for target in spec.targets]
    source = engine.open_source(run, spec)
    created = created_in(source, Manifests(engine, source).named)

    def newest(tag: str) -> float:
        digests: set[str] = set()
        for side in sides:
            with suppress(NotFound):
                digests.add(engine.patience.attempt(partial(side.resolve, tag)).digest)
        return max(map(created, digests), default=UNDATED)

    return newest


def _listed(engine: Engine, repository: str) -> set[str]:
    pages = _pages(engine.open_repository(repository), engine.patience, "")
    try:
        return {tag for page in pages for tag in page}
    except NotFound:
        return set()


def _streamed(
    engine: Engine,
    run: str,
    selection: Selection,
    source: Source,
    pages: Iterator[list[str]],
    cursor: str,
) -> Iterator[Portion]:
    is_first = not cursor
    for page, is_last in _marked(pages):
        engine.ledger.sources.add_digest_tags(
            run, source.name, [tag for tag in page if is_digest_tag(tag)], complete=is_last
        )
        if is_first and not is_last:
            _list_digest_tags(engine, run, source)
        is_first = False
        cursor = page[-1] if page else cursor
        choice = selection.choose(page)
        engine.dropped(choice.dropped)
        yield cursor, [(tag, tag) for tag in choice.kept], is_last


def _shown(pages: Iterator[list[str]], listing: Listing) -> Iterator[list[str]]:
    """The pages, each shown to whoever looks for what the source has no more."""
    for page in pages:
        listing.saw(page)
        yield page
    listing.over()


def _marked(pages: Iterator[list[str]]) -> Iterator[tuple[list[str], bool]]:
    """Each page, and whether it is the last one; a list without any is one empty page."""
    held = next(pages, [])
    for page in pages:
        yield held, False
        held = page
    yield held, True


def _list_digest_tags(engine: Engine, run: str, source: Source) -> None:
    """Learn all digest tags of a long list before its first batches ask for them.

    Tags come in lexical order (distribution-spec 1.1), so these stand together; where a registry has
    another order nothing is concluded from it, and each possible one is asked for instead.
    """
    found: list[str] = []
    for page in _pages(source, engine.patience, _DIGEST_TAGS):
        if page != sorted(page) or any(tag <= _DIGEST_TAGS for tag in page):
            return
        found += [tag for tag in page if is_digest_tag(tag)]
        if not page or not page[-1].startswith(_DIGEST_TAGS):
            break
    engine.ledger.sources.add_digest_tags(run, source.name, found, complete=True)


def _pages(source: Source, patience: Patience, last: str) -> Iterator[list[str]]:
    """The source's pages; after a transient fault the listing goes on behind the last tag seen."""
    failures = 0
    while True:
        try:
            for page in source.tags(last or None):
                yield page
                last, failures = page[-1] if page else last, 0
        except Transient as error:
            failures += 1
            if failures >= patience.attempts or patience.is_too_long(error):
                raise
            pause = patience.pause(failures, error)
            tell_attempt(error, failures, pause)
            patience.wait(pause)
        else:
            return
