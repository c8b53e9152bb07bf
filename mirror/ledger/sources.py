"""What a run still has to list: its repositories, where in them it is, and digest tags that were seen.

Of a list of repositories that is read page by page one page is here at a time; of one that was given, all
that is left. Whoever lists moves the cursor by compare-and-set, so any number of listings go on as one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import NamedTuple

from mirror.ledger import scripts
from mirror.ledger.batches import KEEP_S as KEEP_BATCH_S
from mirror.ledger.failures import MOST_EXAMPLES, MOST_REASONS, OTHER, grouped
from mirror.ledger.keys import Client, Keys
from mirror.ledger.totals import counts
from mirror.ledger.values import Resolved, packed, tag_reports
from mirror.ledger.verified import totals_of
from mirror.plan import cut
from mirror.spec import MirrorSpec

STAGED_S = 86400
"""How long a list of references waits for the run that it is for."""
DIGEST_TAGS_S = 7 * 86400
"""Longer than a batch is under way; forgotten ones are asked for one by one."""
AHEAD = 100
"""Repositories that are read at once."""
MOST_REFS = 256
"""Given tags of a repository that are taken at once."""
MOST_NAMED = 100
"""Tags and repositories that a run is known to be about by name."""
_COMPLETE = ""
"""Beside digest tags: there are no others in that repository."""


class Listed(NamedTuple):
    """What a run's listing says of digest tags, and the ledger of the source's referrers."""

    tags: frozenset[str] | None
    """None where the run has not seen all there are."""
    has_referrers: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A repository of the run, ``host/repository``, and which of its tags were given."""

    repository: str
    refs: tuple[tuple[str, str], ...] = ()
    """(target tag, source tag or digest) pairs; empty: its tags are listed."""

    def text(self) -> str:
        """As the ledger keeps it: the name, or with its tags; one that keeps its name is written once."""
        if not self.refs:
            return self.repository
        refs = [tag if tag == ref else [tag, ref] for tag, ref in self.refs]
        return json.dumps([self.repository, refs], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Entry:
        """The inverse of :meth:`text`."""
        if not text.startswith("["):
            return cls(text)
        repository, refs = json.loads(text)
        return cls(
            repository, tuple((one, one) if isinstance(one, str) else (one[0], one[1]) for one in refs)
        )


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a run is in the list of its repositories."""

    page: str | None = ""
    """What leads to the next page of repositories; None: all pages were read."""
    pages: int = 0
    done: int = 0
    """Repositories that are through."""
    tag: str = ""
    """The last tag that was listed of the repository whose turn it is."""

    def text(self) -> str:
        return json.dumps(list(asdict(self).values()))


class Position(NamedTuple):
    """What is listed next, as the ledger has it."""

    text: str
    """The cursor as it is written: what :class:`Sources` compares."""
    cursor: Cursor
    is_over: bool
    entries: list[Entry]
    """The next ones; the first one's turn it is."""
    left: int
    """How many there are, these included."""


class Staged(NamedTuple):
    """A list of references in the ledger that waits for its run."""

    token: str
    digest: str
    """What it says, so that the same list is known to be the same."""
    named: Sequence[tuple[str, str]]
    """Its first (repository, tag), beyond MOST_NAMED where there are more; no tag: all of the repository."""


class Sources:
    """The ledger's lists of what is to be listed."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._fail = client.register_script(scripts.FAIL_REPOSITORY)

    def waiting_batches(self, run: str) -> int:
        """Batches that wait for room in the run's window."""
        return int(self._redis.llen(self._keys.queue(run)))

    def pause_listing(self, run: str) -> None:
        """The run's list is read on when there is room: whoever makes it may ask for that again."""
        self._redis.delete(self._keys.listing(run))

    def stage(self, entries: Iterable[Entry]) -> Staged:
        """Write a list of any length, portion by portion, for a run that is about to be created."""
        token, digest = secrets.token_hex(8), sha256()
        key, named = self._keys.staged(token), list[tuple[str, str]]()
        for portion in cut(_portions(entries), AHEAD):
            if len(named) <= MOST_NAMED:
                named += [(one.repository, tag) for one in portion for tag, _ in one.refs or (("", ""),)]
            texts = [entry.text() for entry in portion]
            digest.update("".join(f"{text}\n" for text in texts).encode())
            pipe = self._redis.pipeline(transaction=False)
            pipe.rpush(key, *texts).expire(key, STAGED_S)
            pipe.execute()
        return Staged(token, digest.hexdigest(), named)

    def position(self, run: str, *, is_given: bool) -> Position:
        """Where the run is; ``is_given``: its repositories are no pages to be read."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._keys.run(run), "cursor", "listed")
        pipe.lrange(self._keys.repositories(run), 0, AHEAD - 1).llen(self._keys.repositories(run))
        (cursor, listed), entries, left = pipe.execute()
        text = (cursor or b"").decode()
        first = Cursor(page=None if is_given else "")
        return Position(
            text=text,
            cursor=Cursor(*json.loads(text)) if text else first,
            is_over=listed == b"1",
            entries=[Entry.parse(entry.decode()) for entry in entries],
            left=left,
        )

    def left(self, run: str) -> Iterator[Entry]:
        """What the run has not come to, of what is here."""
        start = 0
        while found := self._redis.lrange(self._keys.repositories(run), start, start + AHEAD - 1):
            yield from (Entry.parse(entry.decode()) for entry in found)
            start += AHEAD

    def fail_repository(
        self, run: str, cursor: str, following: str, spec: MirrorSpec, error: Exception, *, listed: bool
    ) -> bool:
        """The repository whose turn it is cannot be listed: it counts as one failed tag, without a name.

        ``spec`` is its own; ``cursor``, ``following`` and ``listed`` as for
        :meth:`mirror.ledger.Ledger.add_batches`.
        """
        nameless = [Resolved("", "", None, str(error), type(error).__name__)]
        reports = list(tag_reports(nameless, {}, spec))
        ended, failed = packed(nameless, {}), grouped(reports)[0]
        keys = [self._keys.run(run), self._keys.open, self._keys.repositories(run), self._keys.failures(run)]
        words = [run, cursor, following, int(listed), self._keys.batch_root]
        words += [spec.listed_as, ended, KEEP_BATCH_S]
        words += [MOST_REASONS, OTHER, MOST_EXAMPLES, *failed, counts(totals_of(spec, reports))]
        return bool(self._fail(keys, words))

    def add_digest_tags(
        self, run: str, repository: str, tags: Sequence[str], *, complete: bool = False
    ) -> None:
        """Digest tags (``sha256-….sig``) that a repository's listing showed; ``complete``: these are all."""
        key = self._keys.digest_tags(run, repository)
        if names := [*tags, *([_COMPLETE] if complete else [])]:
            pipe = self._redis.pipeline(transaction=False)
            pipe.sadd(key, *names).expire(key, DIGEST_TAGS_S)
            pipe.execute()

    def digest_tags(self, run: str, repository: str, names: Sequence[str]) -> Listed:
        """Those of ``names`` that were listed; and whether its host was ever seen to have referrers."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.exists(self._keys.referrers_api(repository.partition("/")[0]))
        pipe.smismember(self._keys.digest_tags(run, repository), [_COMPLETE, *names])
        has_referrers, (is_complete, *known) = pipe.execute()
        found = frozenset(name for name, there in zip(names, known, strict=True) if there)
        return Listed(found if is_complete else None, bool(has_referrers))


def _portions(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Each with no more tags than are worth being listed at once."""
    for entry in entries:
        if entry.refs:
            yield from (Entry(entry.repository, refs) for refs in cut(entry.refs, MOST_REFS))
        else:
            yield entry
