"""What verifying runs have found: counted as batches conclude, once (G6); and tags that nobody wants."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mirror.ledger.keys import Client, Keys
from mirror.ledger.passes import Passes
from mirror.ledger.totals import Series, series, tags_of
from mirror.ledger.values import HELD
from mirror.report import ExtraReport, FoundReport, TagReport, TargetReport
from mirror.spec import ANY, MirrorSpec
from registry.reference import LAYOUT

MISSING, DIFFERENT, DAMAGED, BEHIND = "Missing", "Different", "Damaged", "Behind"
"""The kinds of what is wrong with a tag in a target: it is not there; it is at another digest; it is at its
digest, and not all of what that promises is there; it is what it was to be before, and not yet what it is to
be now."""
WRONG = frozenset({MISSING, DIFFERENT, DAMAGED})
MENDED = WRONG | {BEHIND}
"""What a repair is about."""
UNASKED = "Unasked"
"""The kind of a reason why nothing is known beyond a digest: to ask would be a pull that counts."""
VERIFIED, UNCHECKED = "verified", "unchecked"
UNREAD = "Unread"
"""The kind of a tag that is whole as far as HEADs say, and of which the run might not read all bytes."""
READ = "read"
_RESULTS = (READ, VERIFIED, UNCHECKED, HELD.lower(), *sorted(kind.lower() for kind in MENDED))
FOUND = "found:"
"""How the fields of a run begin that count what was found: ``found:TARGET⏎RESULT``."""
KEEP_S = 30 * 86400
MOST_NAMED = 20
"""Extra tags that are named, of each target repository."""
MOST_REPOSITORIES = 100
"""Target repositories with extra tags that a run names; of the others these are counted."""
EXTRA, EXTRAS = "extra", "extras"
"""Results beside those of tags: extra tags, and repositories that have some or whose list is not known."""


# What the batch said before is in the batch: said again, or by a copy of its message, it replaces itself.
_NOTE_EXTRA = """
-- KEYS run, extra, batch; ARGV target of the mirror, repository, count, 1 where there is something to say,
-- that (JSON), most repositories, seconds to keep them
if redis.call('EXISTS', KEYS[1], KEYS[3]) < 2 then return 0 end
local said = 'extra\\n' .. ARGV[2]
local count, has = string.match(redis.call('HGET', KEYS[3], said) or '0 0', '^(%d+) (%d)$')
redis.call('HSET', KEYS[3], said, ARGV[3] .. ' ' .. ARGV[4])
redis.call('HINCRBY', KEYS[1], 'found:' .. ARGV[1] .. '\\nextra', ARGV[3] - count)
redis.call('HINCRBY', KEYS[1], 'found:' .. ARGV[1] .. '\\nextras', ARGV[4] - has)
if ARGV[4] == '0' then
  redis.call('HDEL', KEYS[2], ARGV[2])
elseif redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 or redis.call('HLEN', KEYS[2]) < tonumber(ARGV[6]) then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[5])
end
redis.call('EXPIRE', KEYS[2], ARGV[7])
return 1
"""


def result_of(report: TargetReport) -> str:
    """``verified``, or what else it is; ``unchecked`` where nothing can be said."""
    if report.state == "current":
        return VERIFIED
    is_told = report.state == "failed" and report.kind in MENDED
    return report.kind.lower() if is_told or (report.state, report.kind) == ("held", HELD) else UNCHECKED


def found_of(spec: MirrorSpec, reports: Iterable[TagReport]) -> Counter[str]:
    """Fields of the run to be counted up; none of a run that does not verify."""
    if not spec.verifies:
        return Counter()
    is_deep = spec.verification is not None and spec.verification.deep
    targets = [target for report in reports for target in report.targets]
    results = [(target, result_of(target)) for target in targets]
    if is_deep:
        results += [(one, READ) for one in targets if one.state == "current" and one.kind != UNREAD]
    return Counter(f"{FOUND}{_as_written(one.repository, spec)}\n{result}" for one, result in results)


def totals_of(spec: MirrorSpec, reports: Iterable[TagReport]) -> Series:
    """What the fleet's totals count of a batch: tags in targets by what became of them or was found."""
    if not spec.verifies:
        return tags_of(spec.known_as, reports)
    return Counter(
        series("verify", mirror=spec.known_as, registry=host_of(target.repository), result=result_of(target))
        for report in reports
        for target in report.targets
    )


def host_of(repository: str) -> str:
    """The registry's host; all layout folders are one."""
    return LAYOUT.rstrip(":") if repository.startswith(LAYOUT) else repository.partition("/")[0]


def founds_of(
    row: Mapping[str, str], extra: Mapping[bytes, bytes], spec: MirrorSpec
) -> tuple[FoundReport, ...]:
    """What a run found, by the targets of the fleet file, from its fields and its hash of extra tags."""
    if not spec.verifies:
        return ()
    counts: dict[str, Counter[str]] = {target.repository: Counter() for target in spec.targets}
    for name, number in row.items():
        if name.startswith(FOUND):
            target, _, result = name.removeprefix(FOUND).partition("\n")
            counts.setdefault(target, Counter())[result] += int(number)
    extras = [_extra(name.decode(), json.loads(value)) for name, value in extra.items()]
    return tuple(
        FoundReport(
            target,
            **{name: count[name] for name in _RESULTS},
            extras=(own := tuple(one for one in extras if _is_of(one.repository, target))),
            extra=max(count[EXTRA], sum(one.count for one in own)),  # runs of before counted none beside them
            extras_left=max(0, count[EXTRAS] - len(own)),
        )
        for target, count in counts.items()
    )


class Verified:
    """The ledger's side of verifying runs."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self.passes = Passes(client, keys)

    def note_extra(self, run: str, batch: str, spec: MirrorSpec, found: Iterable[ExtraReport]) -> None:
        """Keep which tags target repositories have beyond the mirror's; said again it replaces itself.

        All are counted, and the first MOST_REPOSITORIES of the run are named. ``spec``: the batch's own.
        """
        names = [self._keys.run(run), self._keys.extra_tags(run), self._keys.batch(batch)]
        pipe = self._redis.pipeline(transaction=False)
        for one in found:
            value = json.dumps([one.count, list(one.tags), one.error])
            words = [_as_written(one.repository, spec), one.repository, one.count]
            words += [int(bool(one.count or one.error)), value, MOST_REPOSITORIES, KEEP_S]
            pipe.eval(_NOTE_EXTRA, len(names), *names, *words)
        pipe.execute()


def _extra(repository: str, value: list[Any]) -> ExtraReport:
    count, tags, error = value
    return ExtraReport(repository, count, tuple(tags), error)


def _as_written(repository: str, spec: MirrorSpec) -> str:
    """A target as the mirror has it: of one of a wildcard's repositories, the wildcard."""
    return f"{repository.removesuffix(spec.rest)}{ANY}" if spec.rest else repository


def _is_of(repository: str, target: str) -> bool:
    return repository.startswith(target.removesuffix(ANY)) if target.endswith(ANY) else repository == target
