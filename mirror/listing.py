"""Enumerate: which tags a run is about, cut into batches while the source is being listed.

A list that can be read page by page is read only as far as there is room: the rest waits at the source and
not in Redis, however many tags there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil

from mirror.created import created_in
from mirror.engine import Engine
from mirror.manifests import Manifests
from mirror.plan import cut
from mirror.retry import Patience
from mirror.select import Selection, is_digest_tag
from mirror.spec import MirrorSpec
from mirror.waits import next_attempt
from registry.errors import RegistryError, Transient
from registry.repository import Repository

NEVER_FULL = 10**9
SPREAD, LEAST_TAGS = 4, 4
"""Into how many batches a list is cut at least, if each still has so many tags."""
_DIGEST_TAGS = "sha256-"


def enumerate_tags(
    engine: Engine, run: str, batch_tags: int, grown: Callable[[], None], most_waiting: int = NEVER_FULL
) -> None:
    """Write the run's batches to the ledger, page by page; ``grown`` is called after each.

    It stops once ``most_waiting`` batches wait for room in the window. The cursor is in the ledger: called
    again, it goes on where it stopped. A source in trouble that may pass parks the run; one that cannot be
    listed fails it with the reason. Nothing is raised for either.
    """
    try:
        _enumerate(engine, run, batch_tags, grown, most_waiting)
    except RegistryError as error:
        until = next_attempt(engine, run, error)
        engine.ledger.pause_listing(run)
        if until is not None:
            engine.ledger.park(run, "open", until)
        else:
            engine.ledger.fail_run(run, str(error), type(error).__name__)


def _enumerate(
    engine: Engine, run: str, batch_tags: int, grown: Callable[[], None], most_waiting: int
) -> None:
    cursor, listed = engine.ledger.cursor(run)
    spec = engine.ledger.spec(run)
    if listed:
        grown()
        return
    for following, pairs, over in _portions(engine, run, spec, cursor):
        batches = list(cut(pairs, _batch_size(len(pairs), batch_tags)))
        if not engine.ledger.add_batches(run, cursor, following, batches, listed=over):
            return  # another enumeration of this run was faster, or the run has ended
        cursor = following
        grown()
        if not over and engine.ledger.waiting_batches(run) >= most_waiting:
            engine.ledger.pause_listing(run)
            return  # whoever makes room has it go on


def _batch_size(tags: int, most: int) -> int:
    """A short list is spread over several workers; one of a few tags is not worth a second message."""
    return most if tags < 2 * LEAST_TAGS else min(most, max(LEAST_TAGS, ceil(tags / SPREAD)))


def _portions(
    engine: Engine, run: str, spec: MirrorSpec, cursor: str
) -> Iterator[tuple[str, Sequence[tuple[str, str]], bool]]:
    """(new cursor, (target tag, source ref) pairs, whether that was all)."""
    selection = Selection.of(spec)
    exact = selection.literals()
    if spec.refs or exact is not None:
        yield "", spec.refs or [(tag, tag) for tag in exact or ()], True
        return
    source = engine.open_source(run)
    pages = _pages(source, engine.patience, cursor)
    if not selection.streamable:
        tags = [tag for page in pages for tag in page]
        engine.ledger.add_digest_tags(run, [tag for tag in tags if is_digest_tag(tag)], complete=True)
        with ThreadPoolExecutor(engine.limits.copy_threads) as pool:
            # By digest and from the cache: landing needs the same manifests, and each is a pull only once.
            created = created_in(source, Manifests(engine, source).named)
            chosen = selection.choose(tags, created, pool.map).kept
        yield "", [(tag, tag) for tag in chosen], True
        return
    yield from _streamed(engine, run, selection, source, pages, cursor)


def _streamed(
    engine: Engine,
    run: str,
    selection: Selection,
    source: Repository,
    pages: Iterator[list[str]],
    cursor: str,
) -> Iterator[tuple[str, Sequence[tuple[str, str]], bool]]:
    is_first = not cursor
    for page, is_last in _marked(pages):
        engine.ledger.add_digest_tags(run, [tag for tag in page if is_digest_tag(tag)], complete=is_last)
        if is_first and not is_last:
            _list_digest_tags(engine, run, source)
        is_first = False
        cursor = page[-1] if page else cursor
        yield cursor, [(tag, tag) for tag in selection.choose(page).kept], is_last


def _marked(pages: Iterator[list[str]]) -> Iterator[tuple[list[str], bool]]:
    """Each page, and whether it is the last one; a list without any is one empty page."""
    held = next(pages, [])
    for page in pages:
        yield held, False
        held = page
    yield held, True


def _list_digest_tags(engine: Engine, run: str, source: Repository) -> None:
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
    engine.ledger.add_digest_tags(run, found, complete=True)


def _pages(source: Repository, patience: Patience, last: str) -> Iterator[list[str]]:
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
            patience.wait(patience.pause(failures, error))
        else:
            return
