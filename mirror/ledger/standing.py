"""How mirrors stand: which runs last dealt with their tags, and which of these are behind since when.

Written as batches conclude, and read for many mirrors at once: what a reading costs depends on mirrors, on
MOST_BATCHES and on what is behind, never on how many tags or runs there are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from mirror.ledger.keys import Client, Keys
from mirror.ledger.lagging import Lagging, lagging_of
from mirror.ledger.lasting import Lasting
from mirror.ledger.reports import report_of
from mirror.ledger.terms import Terms
from mirror.ledger.values import NewerRun, Outcomes, Resolved, outcomes_of, resolved_of, tag_reports, unpacked
from mirror.report import RunReport, TagReport
from mirror.spec import MirrorSpec

PARTIAL_KEPT = 8
"""Of runs about some tags only, how many are known."""
PARTIAL_READ = 3
"""... and how many of them, the newest, are read."""
MOST_BATCHES = 4
"""Batches of a run that are read: its first and its last ones. A batch has up to 32 tags."""
ALL, SOME, VERIFY = "all", "some", "verify"
_WHATS = (ALL, SOME, VERIFY)


@dataclass(slots=True)
class Standing:
    """What is known of one mirror."""

    runs: list[RunReport] = field(default_factory=list)
    """That last dealt with its tags, the oldest first; the last that verified among them."""
    tags: dict[str, list[TagReport]] = field(default_factory=dict)
    """By run: those of the batches that are read, as far as they are remembered (seven days)."""
    behind: Lagging = field(default_factory=Lagging)
    """Whichever runs were about it."""
    wrong: dict[str, dict[str, int]] = field(default_factory=dict)
    """By target as the mirror has it: what the last verification found and nothing has mended since."""

    @property
    def verified(self) -> RunReport | None:
        """The last run that verified all."""
        return next((run for run in reversed(self.runs) if run.kind == "verify"), None)

    @property
    def mirrored(self) -> RunReport | None:
        """The last run about all tags, or else about some."""
        return next((run for run in reversed(self.runs) if run.kind != "verify"), None)


class _Run(NamedTuple):
    report: RunReport
    spec: MirrorSpec
    batches: int


class Standings:
    """One fleet's."""

    def __init__(self, client: Client, keys: Keys, terms: Terms) -> None:
        self._redis, self._keys, self._terms = client, keys, terms

    def keep_only(self, mirrors: Collection[str]) -> None:
        """Forget all others."""
        fields = [name.decode() for name in self._redis.hkeys(self._keys.standing)]
        if others := [name for name in fields if name.partition("\n")[0] not in mirrors]:
            self._redis.unlink(*{self._keys.lagging(name.partition("\n")[0]) for name in others})
            self._redis.hdel(self._keys.standing, *others)

    def of(self, mirrors: Sequence[MirrorSpec]) -> dict[str, Standing]:
        """By name, in three exchanges; raises LedgerError."""
        if not mirrors:
            return {}
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._keys.standing, [f"{one.name}\n{what}" for one in mirrors for what in _WHATS])
        for one in mirrors:
            pipe.hgetall(self._keys.lagging(one.name))
        rows, *behind = pipe.execute()
        found = {
            one.name: Standing(behind=lagging_of(lagging))
            for one, lagging in zip(mirrors, behind, strict=True)
        }
        of_each = {
            one.name: rows[at : at + 3] for one, at in zip(mirrors, range(0, len(rows), 3), strict=True)
        }
        self._read_tags(found, self._read_runs(found, of_each))
        return found

    def open_runs(self, limit: int = 200) -> dict[str, list[RunReport]]:
        """Runs of the fleet file's mirrors that are under way, by mirror, the oldest first; two exchanges."""
        runs = [run.decode() for run in self._redis.zrange(self._keys.underway, 0, limit - 1)]
        found: dict[str, list[RunReport]] = {}
        for one in self._reports(runs).values():
            if not one.spec.ad_hoc:
                found.setdefault(one.spec.mirror, []).append(one.report)
        return found

    def _read_runs(
        self, found: Mapping[str, Standing], rows: Mapping[str, Sequence[bytes | None]]
    ) -> dict[str, _Run]:
        wanted = {name: _runs_of(own) for name, own in rows.items()}
        known = self._reports([run for runs in wanted.values() for run in runs])
        for name, runs in wanted.items():
            reports = [known[run].report for run in runs if run in known]
            whole = (rows[name][0] or b"").decode()
            found[name].runs = _in_order(reports, whole)
            found[name].wrong = _wrong_of([known[run.run] for run in found[name].runs])
            if whole in known and known[whole].report.state == "done":
                found[name].behind = found[name].behind.without(known[whole].report.started_s)
        return known

    def _reports(self, runs: Sequence[str]) -> dict[str, _Run]:
        keys, pipe = self._keys, self._redis.pipeline(transaction=False)
        for run in runs:
            for key in (keys.run, keys.progress, keys.failures, keys.extra_tags):
                pipe.hgetall(key(run))
        answers = pipe.execute() if runs else []
        found: dict[str, _Run] = {}
        for at, run in enumerate(runs):
            fields, progress, failures, extra = answers[4 * at : 4 * at + 4]
            row = {key.decode(): value.decode() for key, value in fields.items()}
            if "spec" not in row:  # it is forgotten
                continue
            with suppress(NewerRun):  # as if there were none: how a mirror stands is not guessed from it
                spec = self._terms.keep(run, row["spec"], row["lane"])[0]
                report = report_of(run, row, spec, progress, failures, extra)
                found[run] = _Run(report, spec, int(row["batches"]))
        return found

    def _read_tags(self, found: Mapping[str, Standing], known: Mapping[str, _Run]) -> None:
        keys, pipe = self._keys, self._redis.pipeline(transaction=False)
        asked = [
            (standing, run.run, f"{run.run}.{index}")
            for standing in found.values()
            for run in standing.runs
            for index in _some_of(known[run.run].batches)
        ]
        for _, _, batch in asked:
            pipe.hmget(keys.batch(batch), "tags", "repository").hgetall(keys.tags(batch))
            pipe.hgetall(keys.outcomes(batch)).get(keys.ended(batch))
        answers = pipe.execute() if asked else []
        for at, (standing, run, _) in enumerate(asked):
            (tags, repository), *rest = answers[4 * at : 4 * at + 4]
            spec = known[run].spec.of((repository or b"").decode())
            results: tuple[list[Resolved], Outcomes] = _results(tags, *rest)
            standing.tags.setdefault(run, []).extend(tag_reports(*results, spec))


def standing_of(keys: Keys, run: str, spec: MirrorSpec) -> Iterator[Lasting]:
    """What a batch that is being concluded leaves: which run dealt with the mirror. ``spec``: the run's."""
    if spec.ad_hoc:
        return
    if spec.verifies:
        if spec.is_whole:
            yield Lasting(keys.standing, f"{spec.mirror}\n{VERIFY}", run)
        return
    what, most = (ALL, 0) if spec.is_whole else (SOME, PARTIAL_KEPT)
    yield Lasting(keys.standing, f"{spec.mirror}\n{what}", run, most)


def _runs_of(rows: Sequence[bytes | None]) -> list[str]:
    """The last run about all tags, the last that verified, and the last ones about some."""
    whole, some, verify = (row.decode() if row else "" for row in rows)
    lines = [line.partition(" ")[2] for line in some.split("\n") if line]
    newest = list(dict.fromkeys(reversed(lines)))[:PARTIAL_READ]
    return list(dict.fromkeys(run for run in (whole, verify, *newest) if run))


def _in_order(runs: Sequence[RunReport], whole: str) -> list[RunReport]:
    """As they began, without those about some tags that a later one about all has dealt with again."""
    since = next((run.started_s for run in runs if run.run == whole), 0.0)
    newer = [run for run in runs if run.started_s >= since or run.kind == "verify"]
    return sorted(newer, key=lambda run: run.started_s)


def _wrong_of(runs: Iterable[_Run]) -> dict[str, dict[str, int]]:
    """Of runs in their order. A run that finds a tag at its digest has not looked at what that promises."""
    wrong: dict[str, dict[str, int]] = {}
    for run, spec, _ in runs:
        if spec.verifies:
            wrong |= {one.repository: one.wrong for one in run.found}
            continue
        for target in spec.targets if run.state == "done" else ():
            left = wrong.pop(target.repository, {})
            if spec.kind != "repair":
                has_asked = spec.is_whole and not spec.trust_s
                left = {word: count for word, count in left.items() if word == "damaged" or not has_asked}
                wrong |= {target.repository: left} if left else {}
    return {target: words for target, words in wrong.items() if words}


def _some_of(batches: int) -> list[int]:
    first, last = min(1, batches), max(1, batches - MOST_BATCHES + 1)
    return [*range(first), *range(last, batches)]


def _results(
    tags: bytes | None, rows: Mapping[bytes, bytes], outcomes: Mapping[bytes, bytes], ended: bytes | None
) -> tuple[list[Resolved], Outcomes]:
    if ended:
        return unpacked(ended)
    return resolved_of(tags or json.dumps([]).encode(), rows), outcomes_of(outcomes)
