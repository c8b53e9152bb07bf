"""What verifying runs have found: counted as batches conclude, once (G6); and tags that nobody wants."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from mirror.ledger.keys import Client, Keys
from mirror.ledger.scripts import NOW
from mirror.ledger.totals import Series, series, tags_of
from mirror.report import ExtraReport, FoundReport, TagReport, TargetReport
from mirror.spec import ANY, MirrorSpec
from registry.reference import LAYOUT

MISSING, DIFFERENT, DAMAGED = "Missing", "Different", "Damaged"
"""The kinds of what is wrong with a tag in a target: it is not there; it is at another digest; it is at its
digest, and not all of what that promises is there."""
WRONG = frozenset({MISSING, DIFFERENT, DAMAGED})
VERIFIED, UNCHECKED = "verified", "unchecked"
FOUND = "found:"
"""How the fields of a run begin that count what was found: ``found:TARGET⏎RESULT``."""
KEEP_S = 30 * 86400
PASS_S = 90 * 86400
"""A pass that takes longer begins anew."""
MOST_READ = 500_000
"""Contents of which it is remembered when they were read: about 100 bytes each."""
Place = tuple[str, str, str]
"""(host, repository, digest)."""
MOST_NAMED = 20
"""Extra tags that are named, of each target repository."""
MOST_REPOSITORIES = 100
"""Target repositories with extra tags that a run names; of the others these are counted."""
EXTRA, EXTRAS = "extra", "extras"
"""Results beside those of tags: extra tags, and repositories that have some or whose list is not known."""

_BEGIN_PASS = (
    NOW
    + """
-- KEYS pass; ARGV seconds to keep it
redis.call('SET', KEYS[1], string.format('%.3f', now), 'NX', 'EX', ARGV[1])
return redis.call('GET', KEYS[1])
"""
)

_NOTE_READ = (
    NOW
    + """
-- KEYS read; ARGV member, most
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[2]))
return 1
"""
)

_RESERVE = """
-- KEYS run; ARGV bytes, most of all: what does not fit any more is left to the next run
local most = tonumber(ARGV[2])
if most > 0 and tonumber(redis.call('HGET', KEYS[1], 'read_bytes') or 0) + ARGV[1] > most then
  redis.call('HSET', KEYS[1], 'read_short', '1')
  return 0
end
redis.call('HINCRBY', KEYS[1], 'read_bytes', ARGV[1])
return 1
"""

_TURN = (
    NOW
    + """
-- KEYS pace; ARGV bytes, bytes a second
local at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0)) + ARGV[1] / ARGV[2]
redis.call('SET', KEYS[1], string.format('%.6f', at), 'EX', math.ceil(at - now) + 60)
return string.format('%.6f', at - now)
"""
)


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
    """``verified``, ``missing``, ``different``, ``damaged``, or ``unchecked``: nothing can be said."""
    if report.state == "current":
        return VERIFIED
    return report.kind.lower() if report.state == "failed" and report.kind in WRONG else UNCHECKED


def found_of(spec: MirrorSpec, reports: Iterable[TagReport]) -> Counter[str]:
    """Fields of the run to be counted up; none of a run that does not verify."""
    if not spec.verifies:
        return Counter()
    return Counter(
        f"{FOUND}{_as_written(target.repository, spec)}\n{result_of(target)}"
        for report in reports
        for target in report.targets
    )


def totals_of(spec: MirrorSpec, reports: Iterable[TagReport]) -> Series:
    """What the fleet's totals count of a batch: tags in targets by what became of them or was found."""
    if not spec.verifies:
        return tags_of(spec.mirror, reports)
    return Counter(
        series("verify", mirror=spec.mirror, registry=host_of(target.repository), result=result_of(target))
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
            **{name: count[name] for name in (VERIFIED, UNCHECKED, *(kind.lower() for kind in WRONG))},
            extra=count[EXTRA],
            extras=(own := tuple(one for one in extras if _is_of(one.repository, target))),
            extras_left=count[EXTRAS] - len(own),
        )
        for target, count in counts.items()
    )


class Verified:
    """The ledger's side of verifying runs."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._reserve, self._turn = client.register_script(_RESERVE), client.register_script(_TURN)
        self._begin = client.register_script(_BEGIN_PASS)

    def begin_pass(self, mirror: str) -> float:
        """When the pass over all bytes of a mirror began that is under way, in Unix time; now, if none is.

        It ends with a run that looked at all and was not stopped by what it may read.
        """
        return float(self._begin([self._keys.deep_pass(mirror)], [PASS_S]))

    def unread(self, since: float, places: Sequence[Place]) -> list[bool]:
        """Which contents were not read and found to be right since then."""
        if not places:
            return []
        scores = self._redis.zmscore(self._keys.read, [_member(one) for one in places])
        return [score is None or score < since for score in scores]

    def note_read(self, host: str, repository: str, digest: str) -> None:
        """It was read just now and is what it should be. Beyond MOST_READ the oldest are forgotten."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(_NOTE_READ, 1, self._keys.read, _member((host, repository, digest)), MOST_READ)
        pipe.execute()

    def reserve(self, run: str, size: int, most: int) -> bool:
        """Whether the run may read so many bytes more; ``most``: of all it reads, 0: any number."""
        return bool(self._reserve([self._keys.run(run)], [size, most]))

    def take_turn(self, run: str, size: int, bytes_per_s: int) -> float:
        """Count bytes that were read; how many seconds the run's workers together are ahead of the rate."""
        return float(self._turn([self._keys.deep_pace(run)], [size, bytes_per_s]))

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


def _member(place: Place) -> str:
    return urlsafe_b64encode(sha256("\n".join(place).encode()).digest()[:12]).decode()


def _extra(repository: str, value: list[Any]) -> ExtraReport:
    count, tags, error = value
    return ExtraReport(repository, count, tuple(tags), error)


def _as_written(repository: str, spec: MirrorSpec) -> str:
    """A target as the mirror has it: of one of a wildcard's repositories, the wildcard."""
    return f"{repository.removesuffix(spec.rest)}{ANY}" if spec.rest else repository


def _is_of(repository: str, target: str) -> bool:
    return repository.startswith(target.removesuffix(ANY)) if target.endswith(ANY) else repository == target
