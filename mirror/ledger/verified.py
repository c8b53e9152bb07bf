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
_RESULTS = (VERIFIED, UNCHECKED, HELD.lower(), *sorted(kind.lower() for kind in MENDED))
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
            **{name: count[name] for name in _RESULTS},
            extra=sum(one.count for one in extras if _is_of(one.repository, target)),
            extras=tuple(one for one in extras if _is_of(one.repository, target)),
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

    def note_extra(self, run: str, found: Iterable[ExtraReport]) -> None:
        """Keep which tags target repositories have beyond the mirror's; said again it replaces itself."""
        key, pipe = self._keys.extra_tags(run), self._redis.pipeline(transaction=False)
        for one in found:
            value = [one.count, list(one.tags), one.error]
            if one.count or one.error:
                pipe.hset(key, one.repository, json.dumps(value))
            else:
                pipe.hdel(key, one.repository)
        pipe.expire(key, KEEP_S)
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
