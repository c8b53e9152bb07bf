"""Tags that their source has no more: since when, and what became of them in the targets.

While a run lists its source, ``left`` holds what this mirror has put somewhere and the list has not shown
yet. It counts only if it was there from the first page to the last.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby, islice
from typing import TypeVar

from mirror.ledger import gone_scripts as scripts
from mirror.ledger.history import Flip, History, deletion_of
from mirror.ledger.keys import Client, Keys
from mirror.ledger.lagging import row_of
from mirror.ledger.lasting import Lasting, rows
from mirror.ledger.newer import own_fields
from mirror.report import Deletion, label_of
from mirror.spec import TARGETS, MirrorSpec, Target

KEEP_S = 7 * 86400
LEFT_S = 86400
"""How long a list that is over may be asked what it did not show: by a copy of its message, or by a plan."""
PORTION = 1000
_BEGUN, _NOTHING_LISTED = "\n", "\n0"
"""What ``left`` holds beside tags, which have no line break: that it is whole, and until a page had a tag."""
T = TypeVar("T")


class Listing:
    """One run's way through the tags of one repository, as far as it has to be kept."""

    def __init__(self, gone: Gone, run: str, spec: MirrorSpec, *, from_the_start: bool) -> None:
        self._gone, self._run, self._spec = gone, run, spec
        self._is_kept = spec.delete == "mirror" and spec.kind == "mirror"
        if self._is_kept and from_the_start:
            gone.begin(run, spec)
        elif from_the_start and spec.kind == "mirror":
            gone.forget_all(spec.name)  # what was seen before `delete` was taken out gives no grace later

    def saw(self, tags: Sequence[str]) -> None:
        """To be told of each page, with everything on it, before the cursor moves on."""
        if self._is_kept:
            self._gone.saw(self._run, self._spec, tags)

    def over(self) -> None:
        """To be told when there is no further page, before the cursor says so."""
        if self._is_kept:
            self._gone.over(self._run, self._spec)


class Gone:
    """Of each mirror a hash: tag → since when its source lacks it, and which run saw that first."""

    def __init__(self, client: Client, keys: Keys, history: History, flips_kept: int = 0) -> None:
        """``history``: whose moves count as ours; of each tag ``flips_kept`` stay."""
        self._redis, self._keys, self._history, self._flips_kept = client, keys, history, flips_kept
        script = client.register_script
        self._arm, self._record, self._done = (
            script(scripts.ARM),
            script(scripts.RECORD),
            script(scripts.REGION_DONE),
        )

    # -- while the source is listed -----------------------------------------------------------------

    def listing(self, run: str, spec: MirrorSpec, *, from_the_start: bool) -> Listing:
        return Listing(self, run, spec, from_the_start=from_the_start)

    def begin(self, run: str, spec: MirrorSpec) -> None:
        """Remember what the list will have to show; who lists the same at the same time changes nothing."""
        key = self._keys.left(run, spec.name)
        if self._redis.exists(key):
            return
        draft = f"{key}:{secrets.token_hex(8)}"
        self._redis.sadd(draft, _BEGUN, _NOTHING_LISTED)
        self._redis.expire(draft, KEEP_S)
        for flips in portions(self._standing(spec)):
            self._redis.sadd(draft, *(tag for tag, _ in flips))
        if not self._redis.renamenx(draft, key):
            self._redis.delete(draft)
        self._note_list(run)

    def _note_list(self, run: str) -> None:
        generation = self._redis.incr(self._keys.generation)
        self._redis.hsetnx(self._keys.run(run), "listed_as", generation)

    def want(self, run: str, spec: MirrorSpec) -> None:
        """Of a two-way mirror: have the run follow deletions at its end, after a whole list of all sides."""
        self._note_list(run)
        self._arm([self._keys.run(run), self._keys.pruned(run)], [spec.listed_as, KEEP_S])

    def is_wanted(self, run: str, spec: MirrorSpec) -> bool:
        """Whether :meth:`want` was said of it."""
        return bool(self._redis.sismember(self._keys.pruned(run), spec.listed_as))

    def is_at_work(self, run: str) -> bool:
        """Whether what the run lists may change anything: not for a plan, nor once it has ended."""
        return bool(self._redis.hget(self._keys.run(run), "state") == b"open")

    def saw(self, run: str, spec: MirrorSpec, tags: Sequence[str]) -> None:
        for portion in portions(tags):
            self._redis.srem(self._keys.left(run, spec.name), _NOTHING_LISTED, *portion)

    def over(self, run: str, spec: MirrorSpec) -> None:
        """Note what the whole list did not show, forget what it did, and have the run look at the former."""
        missing = self.missing(run, spec)
        if missing is None:
            return
        self._redis.expire(self._keys.left(run, spec.name), LEFT_S)
        if self.is_at_work(run):  # a plan's list begins no grace
            self._note(run, spec, missing)
        if missing:
            self._arm([self._keys.run(run), self._keys.pruned(run)], [spec.source, KEEP_S])

    def _note(self, run: str, spec: MirrorSpec, missing: set[str]) -> None:
        key, now = self._keys.gone(spec.name), int(self._redis.time()[0])
        for portion in portions(sorted(missing)):
            pipe = self._redis.pipeline(transaction=False)
            for tag in portion:
                pipe.hsetnx(key, tag, f"{now} {run}")
            pipe.execute()
        back = (tag for tag in self._redis.hscan_iter(key, count=PORTION, no_values=True))
        for portion in portions(tag for tag in back if tag.decode() not in missing):
            self._redis.hdel(key, *portion)

    def missing(self, run: str, spec: MirrorSpec) -> set[str] | None:
        """What the list has not shown; None where it was not kept whole, or showed nothing at all."""
        found = {one.decode() for one in self._redis.sscan_iter(self._keys.left(run, spec.name))}
        if _BEGUN not in found or _NOTHING_LISTED in found:
            return None
        return found - {_BEGUN}

    def forget(self, mirror: str, tags: Sequence[str]) -> None:
        """Somebody wants them in the targets: for how long the source lacks them is counted anew."""
        if tags:
            self._redis.hdel(self._keys.gone(mirror), *tags)

    def forget_all(self, mirror: str) -> None:
        """Nobody counts for how long the source lacks its tags."""
        self._redis.unlink(self._keys.gone(mirror))

    # -- at the end of a run ------------------------------------------------------------------------

    def regions_to_do(self, run: str, regions: Sequence[str]) -> list[str]:
        """Regions in which the run's deletions are due; none while it has other work, is paused or ended."""
        fields = ["state", "prunes", "paused", *(f"pruned:{region}" for region in regions)]
        state, prunes, paused, *done = self._redis.hmget(self._keys.run(run), fields)
        if state != b"open" or prunes != b"due" or paused:
            return []
        return [region for region, one in zip(regions, done, strict=True) if one is None]

    def repositories(self, run: str) -> list[str]:
        """Sources that lack tags which we put somewhere."""
        return sorted(one.decode() for one in self._redis.smembers(self._keys.pruned(run)))

    def generation(self, run: str) -> int:
        """Taken before the run's list was read: what was claimed with a later one is newer than the list."""
        return int(self._redis.hget(self._keys.run(run), "listed_as") or 0)

    def first_seen(self, mirror: str) -> dict[str, tuple[float, str]]:
        """By tag: since when its source lacks it (Unix time), and the run that saw it first."""
        rows = self._redis.hscan_iter(self._keys.gone(mirror), count=PORTION)
        words = ((tag.decode(), row.decode().partition(" ")) for tag, row in rows)
        return {tag: (float(at), run) for tag, (at, _, run) in words}

    def put(self, spec: MirrorSpec, targets: Sequence[Target]) -> dict[str, dict[str, str]]:
        """By target: the tags that are where a run from this source put them, as far as we know; digests."""
        put: dict[str, dict[str, str]] = {target.repository: {} for target in targets}
        for tag, digests in self._standing(spec):
            for name in digests.keys() & put.keys():
                put[name][tag] = digests[name]
        return put

    def _standing(self, spec: MirrorSpec) -> Iterator[tuple[str, dict[str, str]]]:
        for _, flips in groupby(self._history.all(spec.name), key=lambda one: one.tag):
            yield from _where(list(flips), spec.source)

    def deletion(self, run: str, tag: str, target: str) -> Deletion | None:
        row = self._redis.hget(self._keys.deletions(run), f"{tag}\n{target}")
        return _deletion(row) if row else None

    def deletions(self, run: str) -> list[Deletion]:
        """What became of each tag that is gone from the source, by target and tag."""
        found = [_deletion(row) for row in self._redis.hvals(self._keys.deletions(run))]
        return sorted(found, key=lambda one: (one.target, one.tag))

    def record(self, run: str, one: Deletion, spec: MirrorSpec) -> None:
        """Write what becomes of it; what was deleted stays so, and is put into the tag's history, once."""
        keys = [self._keys.run(run), self._keys.deletions(run), self._keys.open]
        words = [run, f"{one.tag}\n{one.target}", one.state, json.dumps(asdict(one)), KEEP_S]
        kept, line = list[Lasting](), list[str | int]()
        if one.state in {"deleted", "absent"}:
            row = row_of(label_of(spec.rest, one.tag), spec.place_of(one.target))
            kept.append(Lasting(self._keys.lagging(spec.mirror), row, ""))
            if self._flips_kept:
                place, words_of_line = deletion_of(self._keys, spec, one)
                kept, line = [*kept, place], [*words_of_line, self._flips_kept]
        self._record(keys, [*words, rows(kept), *line])

    def end_region(self, run: str, region: str, regions: Sequence[str]) -> bool:
        """The region is through; with the last one the run ends."""
        keys = [self._keys.run(run), self._keys.open]
        return bool(self._done(keys, [run, region, *regions]))

    def swept(self, run: str) -> int:
        """Count that its deletions were sent once more; returns how often they were."""
        return int(self._redis.hincrby(self._keys.run(run), "prune_attempts", 1))


def portions(items: Iterable[T], size: int = PORTION) -> Iterator[list[T]]:
    source = iter(items)
    while portion := list(islice(source, size)):
        yield portion


def _where(flips: Sequence[Flip], source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Nothing for a tag that was deleted from every target, or that others put there under the same name.

    Whose a tag is says the last move that had a source: a rollback moves what was somebody's before.
    """
    at, origin = dict[str, str](), dict[str, str]()
    for flip in flips:
        for target in flip.previous:
            at.setdefault(target, flip.to)
            if flip.source != TARGETS:
                origin.setdefault(target, flip.source)
    held = {target: digest for target, digest in at.items() if digest and origin.get(target) == source}
    if held:
        yield flips[0].tag, held


def _deletion(row: bytes) -> Deletion:
    return Deletion(**own_fields(Deletion, json.loads(row)))
