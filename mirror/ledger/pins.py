"""Tags that a rollback has pinned: runs of their mirror leave them where they are until they are let go.

Only another rollback moves them, and the pin with them.

One hash for the whole fleet: pins are few. A pin is written before its rollback asks what it is about, so
that a run whose question comes later knows of it, and one whose question came earlier is the older one (G5).
Until the rollback is through with the tag, the pin that there was before is kept beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mirror.ledger.keys import Client, Keys
from mirror.ledger.lasting import Lasting
from mirror.ledger.values import Outcomes, Resolved
from mirror.report import THERE
from mirror.spec import MirrorSpec

PAGE = 500

PIN = """
-- KEYS pins; ARGV run, 1 or only what is pinned already, (field, digest) ...: a second time nothing changes
local now = redis.call('TIME')[1]
for i = 3, #ARGV, 2 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  local row = held and cjson.decode(held)
  if (row or ARGV[2] == '1') and not (row and row[2] == ARGV[1]) then
    local before = row and (row[4] or row) or ''
    redis.call('HSET', KEYS[1], ARGV[i], cjson.encode({ARGV[i + 1], ARGV[1], tonumber(now), before}))
  end
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Pin:
    """One tag of a mirror that stays at ``digest``."""

    mirror: str
    """Of a wildcard ``MIRROR/REPOSITORY``."""
    tag: str
    digest: str
    run: str
    """The rollback that pinned it."""
    at_s: int
    """Unix time."""

    @property
    def reason(self) -> str:
        """Why a run leaves the tag alone, and what to do about it."""
        since = f"{datetime.fromtimestamp(self.at_s, UTC):%Y-%m-%d %H:%M} UTC"
        free = f"`sealift unpin {self.mirror} {self.tag}` lets it go"
        return f"pinned at {self.digest} since {since} by rollback {self.run}; {free}"

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Pins:
    """A fleet's pins."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._pin = client.register_script(PIN)

    def ask(self, mirror: str, tags: Sequence[str], on: Client) -> None:
        """Have the rows of the tags among the answers, as :meth:`read` takes them; not for no tags."""
        on.hmget(self._keys.pins, [_field(mirror, tag) for tag in tags])

    def read(self, mirror: str, tags: Sequence[str], rows: Sequence[bytes | None]) -> dict[str, Pin]:
        return {tag: _pin(mirror, tag, row) for tag, row in zip(tags, rows, strict=True) if row}

    def of(self, mirror: str, tags: Sequence[str]) -> dict[str, Pin]:
        """By tag; a tag without a pin is left out."""
        return self.read(mirror, tags, self._rows(mirror, tags))

    def all(self) -> Iterator[Pin]:
        """Every pin of the fleet, in no order."""
        for field, row in self._redis.hscan_iter(self._keys.pins, count=PAGE):
            mirror, _, tag = field.decode().partition("\n")
            yield _pin(mirror, tag, row)

    def put(self, mirror: str, run: str, digests: Mapping[str, str], *, new: bool = True) -> None:
        """Pin tags for a rollback that is about to begin; again for the same run changes nothing.

        Without ``new`` only those that are pinned already: their pins go along.
        """
        words = [part for tag, digest in digests.items() for part in (_field(mirror, tag), digest)]
        if words:
            self._pin([self._keys.pins], [run, int(new), *words])

    def drop(self, mirror: str, tags: Sequence[str]) -> list[str]:
        """Let tags go; those that were pinned."""
        pipe = self._redis.pipeline()
        for tag in tags:
            pipe.hdel(self._keys.pins, _field(mirror, tag))
        return [tag for tag, dropped in zip(tags, pipe.execute(), strict=True) if dropped]

    def settled(
        self, run: str, resolved: Iterable[Resolved], outcomes: Outcomes, spec: MirrorSpec
    ) -> Iterator[Lasting]:
        """What a rollback leaves of its batch's pins: its own where the tag is there, else the one before.

        Whatever somebody has done about a pin meanwhile stays.
        """
        tags = [one.tag for one in resolved] if spec.kind == "rollback" else []
        for tag, row in zip(tags, self._rows(spec.name, tags), strict=True):
            own: list[Any] = json.loads(row) if row else []
            if row is None or len(own) < 4 or own[1] != run:
                continue
            states = {o.state for t in spec.targets if (o := outcomes.get((tag, t.repository)))}
            left = own[:3] if states and states <= THERE else own[3]
            value = json.dumps(left) if left else ""
            yield Lasting(self._keys.pins, _field(spec.name, tag), value, over=row.decode())

    def _rows(self, mirror: str, tags: Sequence[str]) -> list[bytes | None]:
        fields = [_field(mirror, tag) for tag in tags]
        rows: list[bytes | None] = self._redis.hmget(self._keys.pins, fields) if fields else []
        return rows


def _field(mirror: str, tag: str) -> str:
    return f"{mirror}\n{tag}"


def _pin(mirror: str, tag: str, row: bytes) -> Pin:
    digest, run, at_s, *_ = json.loads(row)
    return Pin(mirror, tag, digest, run, int(at_s))
