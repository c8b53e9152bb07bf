"""Enumerate the repositories of a run that covers many, and the tags of each, a page of either at a time.

The cursor in the ledger is the page of repositories, the repository and the last tag: whoever goes on asks
for nothing again that was through. A repository that cannot be listed fails by name; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from mirror.engine import Engine, Lister
from mirror.ledger.sources import AHEAD, Cursor, Entry, Position
from mirror.pages import COMPARED, portions
from mirror.plan import cut
from mirror.spec import EVERYWHERE, MirrorSpec, name_of
from mirror.telling import tell_not_listed
from mirror.waits import next_attempt
from registry.errors import RegistryError, Transient, Unreachable, Unsafe
from registry.reference import MalformedReference, Reference, Wildcard
from registry.repository import RepositoryPage

_GLOB = frozenset("*?[")
MOST_PAGES = 100_000
"""Of a list of repositories: one that leads in a circle has an end all the same."""
PAGE_NAMES = 500
"""Of what several sides have together: how many are given to the ledger at once."""
Pairs = Sequence[tuple[str, str]]
Portion = tuple[str, Pairs, bool]
"""As :func:`mirror.pages.portions` yields them."""


def enumerate_repositories(
    engine: Engine, run: str, batch_tags: int, grown: Callable[[], None], most_waiting: int
) -> None:
    """As :func:`mirror.listing.enumerate_tags`, repository by repository.

    Raises RegistryError where the list of repositories is not to be had, or what is asked may answer later.
    """
    for was_first in _Walk(engine, run, batch_tags).steps():
        if not was_first:
            return  # another listing of this run was faster, or the run has ended
        grown()
        if engine.ledger.sources.waiting_batches(run) >= most_waiting:
            engine.ledger.sources.pause_listing(run)
            return  # whoever makes room has it go on
    grown()


def repositories_of(spec: MirrorSpec, lister: Lister) -> Iterator[str]:
    """Every ``host/repository`` of the wildcard, as a run would come to them. Raises RegistryError."""
    below, page, pages = Wildcard.parse(spec.source), lister(Wildcard.parse(spec.source), ""), 1
    while True:
        yield from _named(spec, below, page)
        if page.following is None:
            return
        if pages >= MOST_PAGES:
            raise _endless(below)
        page, pages = lister(below, page.following), pages + 1


def union_of(engine: Engine, spec: MirrorSpec, lister: Lister) -> list[str]:
    """What the wildcards of a two-way mirror stand for: the repositories of any side, sorted, in memory.

    Where all are named one by one nothing is listed: not every registry can be. Raises RegistryError where
    a side cannot be listed: its repositories are not taken to be gone.
    """
    if not any(_GLOB.intersection(text) for text in spec.repositories):
        return sorted(rest for rest in spec.repositories if spec.takes(rest))
    found: set[str] = set()
    for target in spec.targets:
        below, asked = Wildcard.parse(target.repository), ""
        for _ in range(MOST_PAGES):
            page = engine.patience.attempt(partial(lister, below, asked))
            rests = (f"{below.host}/{name}".removeprefix(below.prefix_name) for name in page.names)
            found.update(rest for rest in rests if spec.takes(rest))
            if page.following is None:
                break
            asked = page.following
        else:
            raise _endless(below)
    return sorted(found)


class _Walk:
    """One listing on its way. Others may be on the same way: who is first at a step moves the cursor."""

    def __init__(self, engine: Engine, run: str, batch_tags: int) -> None:
        self._engine, self._run, self._batch_tags = engine, run, batch_tags
        self._spec = engine.ledger.spec(run)
        self._at = self._position()
        self._union: list[str] | None = None

    def steps(self) -> Iterator[bool]:
        """Take one step after the other: whether it was taken here; ends where all is listed."""
        while not self._at.is_over:
            if not self._at.left:
                yield self._read_page()
            elif self._at.entries:
                yield from self._list(self._at.entries[0])
            else:
                self._at = self._position()

    def _position(self) -> Position:
        return self._engine.ledger.sources.position(self._run, is_given=bool(self._spec.given))

    def _read_page(self) -> bool:
        """Have the next page of repositories come next."""
        cursor, lister = self._at.cursor, self._engine.list_repositories
        if cursor.page is None or lister is None:
            return self._add(replace(cursor, page=None, pages=cursor.pages + 1))
        if self._spec.reads_targets:
            return self._read_union(cursor.page, lister)
        below, asked = Wildcard.parse(self._spec.source), cursor.page
        if cursor.pages >= MOST_PAGES:
            raise _endless(below)
        page = self._engine.patience.attempt(lambda: lister(below, asked))
        names = _named(self._spec, below, page)
        return self._add(replace(cursor, page=page.following, pages=cursor.pages + 1), names=names)

    def _read_union(self, last: str, lister: Lister) -> bool:
        """The same of what any side has: of the whole list, what comes after the ``last`` one."""
        if self._union is None:
            self._union = union_of(self._engine, self._spec, lister)
        names = list(islice((name for name in self._union if name > last), PAGE_NAMES + 1))
        following = names[PAGE_NAMES - 1] if len(names) > PAGE_NAMES else None
        cursor = replace(self._at.cursor, page=following, pages=self._at.cursor.pages + 1)
        return self._add(cursor, names=[name_of(self._spec, name) for name in names[:PAGE_NAMES]])

    def _list(self, entry: Entry) -> Iterator[bool]:
        """Take what is left of the repository whose turn it is."""
        try:
            for tag, pairs, is_through in self._portions(entry):
                cursor = self._at.cursor
                following = replace(cursor, done=cursor.done + is_through, tag="" if is_through else tag)
                yield self._add(following, entry.repository, pairs, is_through=is_through)
        except MalformedReference as error:
            yield self._fail(entry, error)
        except RegistryError as error:
            if self._may_pass(error):
                raise
            yield self._fail(entry, error)

    def _portions(self, entry: Entry) -> Iterable[Portion]:
        own = self._spec.of(entry.repository)
        for target in own.targets:
            Reference.parse(target.repository)  # what is long enough for one registry is too long for another
        if entry.refs:
            return [("", entry.refs, True)]
        return portions(self._engine, self._run, own, self._at.cursor.tag)

    def _may_pass(self, error: RegistryError) -> bool:
        """Whether it is no matter of this repository alone, or not for good."""
        if not isinstance(error, Transient):
            return False
        is_everywhere = isinstance(error, Unreachable) and self._spec.source != EVERYWHERE
        return is_everywhere or next_attempt(self._engine, self._run, error) is not None

    def _add(
        self,
        following: Cursor,
        repository: str = "",
        pairs: Pairs = (),
        *,
        is_through: bool = False,
        names: Sequence[str] = (),
    ) -> bool:
        """Write what was found and go on behind it; False where another has."""
        batches = list(cut(pairs, self._batch_tags))
        if is_through and self._spec.looks_for_extra and not self._at.entries[0].refs:
            batches.append(COMPARED)
        before = self._go_on(following, is_through=is_through, names=names)
        return self._engine.ledger.add_batches(
            self._run,
            before,
            self._at.text,
            batches,
            listed=self._at.is_over,
            repository=repository,
            is_through=is_through,
            repositories=names,
        )

    def _fail(self, entry: Entry, error: Exception) -> bool:
        """Leave a repository behind with the reason."""
        following = replace(self._at.cursor, done=self._at.cursor.done + 1, tag="")
        before = self._go_on(following, is_through=True)
        was_first = self._engine.ledger.sources.fail_repository(
            self._run, before, self._at.text, self._spec.of(entry.repository), error, listed=self._at.is_over
        )
        if was_first:
            own = self._spec.of(entry.repository)
            tell_not_listed(self._run, self._spec.name, own.origin, error)
        return was_first

    def _go_on(self, following: Cursor, *, is_through: bool, names: Sequence[str] = ()) -> str:
        """Know where it goes on, if nobody else is faster; returns the cursor before, as it was written."""
        before = self._at
        left = before.left - is_through + len(names)
        entries = [*before.entries[is_through:], *map(Entry, names)][:AHEAD]
        is_over = following.page is None and not left
        self._at = Position(following.text(), following, is_over, entries, left)
        return before.text


def _named(spec: MirrorSpec, below: Wildcard, page: RepositoryPage) -> list[str]:
    """Those of the page that are the mirror's, in full."""
    names = (f"{below.host}/{name}" for name in page.names)
    return [name for name in names if spec.takes(spec.rest_of(name))]


def _endless(below: Wildcard) -> Unsafe:
    return Unsafe(below.host, f"{below.prefix}*", "its list of repositories has no end")
