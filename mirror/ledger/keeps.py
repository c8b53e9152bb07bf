"""Which of a tag's former digests are kept safe in a target, in which slot, and the bytes of their manifests.

The slots of a tag are a ring. It holds the last ``most`` digests that the tag had besides the one it is about
to have, so a tag has one slot more at most. What is surplus, since ``most`` was larger once or an image had
more below it, stays on record until its keeper tags are gone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from mirror.ledger.keys import Client, Keys
from registry.manifest import Manifest

GONE_S = 6 * 3600
"""How long manifests outlive the last tag that keeps them: as long as any that was read."""

TAKE_SLOT = """
-- KEYS slots, manifests of the digest, who keeps it
-- ARGV tag, digest, the digest it is about to have, most, manifests, member, root of manifests, root of who,
--   seconds that manifests outlive who keeps them, how many manifests are below it
-- The slot of the digest: a second time it is the same.
local held = redis.call('HGET', KEYS[1], ARGV[1])
local left, others, slot, used, tagged = {}, {}, nil, {}, 0
for _, row in ipairs(held and cjson.decode(held) or {}) do
  used[row[1]] = true
  if row[2] == ARGV[2] then
    slot, tagged = row[1], row[4] or 0
  else
    left[#left + 1] = row
    if row[2] ~= ARGV[3] then others[#others + 1] = row end
  end
end
if not slot and #others >= tonumber(ARGV[4]) then
  local last = others[1]
  slot, tagged = last[1], last[4] or 0
  for i, row in ipairs(left) do
    if row == last then table.remove(left, i) break end
  end
  redis.call('SREM', ARGV[8] .. last[2], ARGV[6])
  if redis.call('EXISTS', ARGV[8] .. last[2]) == 0 then redis.call('EXPIRE', ARGV[7] .. last[2], ARGV[9]) end
end
if not slot then
  slot = 0
  while used[slot] do slot = slot + 1 end
end
local below = tonumber(ARGV[10])
left[#left + 1] = {slot, ARGV[2], below, math.max(below, tagged)}
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(left))
redis.call('SET', KEYS[2], ARGV[5])
redis.call('SADD', KEYS[3], ARGV[6])
return slot
"""

FREE = """
-- KEYS slots, who keeps the digest, its manifests
-- ARGV tag, the row, the one that replaces it or none, member, seconds that manifests outlive who keeps them
-- A row that was changed meanwhile stays. Rows of before have a slot and a digest alone.
local held = redis.call('HGET', KEYS[1], ARGV[1])
local left, found = {}, false
for _, row in ipairs(held and cjson.decode(held) or {}) do
  row[3], row[4] = row[3] or 0, row[4] or 0
  if cjson.encode(row) ~= ARGV[2] then
    left[#left + 1] = row
  else
    found = true
    if ARGV[3] ~= '' then left[#left + 1] = cjson.decode(ARGV[3]) end
  end
end
if not found then return 0 end
if #left > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(left))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
if ARGV[3] == '' then
  redis.call('SREM', KEYS[2], ARGV[4])
  if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('EXPIRE', KEYS[3], ARGV[5]) end
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """One former digest of a tag in a target."""

    number: int
    digest: str
    below: int = 0
    """How many manifests it has below it, each with a keeper tag of its own."""
    tagged: int = 0
    """How many of those tags there are: more, where the slot was another image's before."""


def surplus(slots: Sequence[Slot], now_at: str, most: int) -> list[Slot]:
    """Of a tag that is now at a digest: the slots beyond the last ``most``."""
    former = [one for one in slots if one.digest != now_at or not most]
    return list(former[: max(0, len(former) - most)])


class Keeps:
    """A fleet's kept digests."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._take, self._free = client.register_script(TAKE_SLOT), client.register_script(FREE)

    def take(self, repository: str, tag: str, wanted: str, most: int, manifests: Sequence[Manifest]) -> int:
        """The slot for what the tag is in a target, before it becomes ``wanted``; the root is first.

        Its manifests stay in the ledger for as long as a slot of any tag has them.
        """
        keys, root = self._keys, manifests[0].digest
        names = [keys.kept(repository), keys.kept_manifests(root), keys.kept_for(root)]
        words = [tag, root, wanted, most, _packed(manifests), f"{repository}\n{tag}"]
        return int(
            self._take(
                names, [*words, keys.kept_manifests(""), keys.kept_for(""), GONE_S, len(manifests) - 1]
            )
        )

    def slots(self, places: Sequence[tuple[str, str]]) -> list[list[Slot]]:
        """Of each (repository, tag), the oldest first."""
        pipe = self._redis.pipeline(transaction=False)
        for repository, tag in places:
            pipe.hget(self._keys.kept(repository), tag)
        return [[Slot(*row) for row in json.loads(held or b"[]")] for held in pipe.execute()]

    def free(self, repository: str, tag: str, slot: Slot, *, whole: bool) -> None:
        """Its keeper tags are gone: all of them, or only those that belong to no manifest of it any more."""
        keys, left = self._keys, [slot.number, slot.digest, slot.below, slot.below]
        names = [keys.kept(repository), keys.kept_for(slot.digest), keys.kept_manifests(slot.digest)]
        row, after = _row(astuple(slot)), "" if whole else _row(left)
        self._free(names, [tag, row, after, f"{repository}\n{tag}", GONE_S])

    def manifests(self, digest: str) -> list[Manifest]:
        """Those that are kept of it, the root first; none where no tag keeps it."""
        value: bytes | None = self._redis.get(self._keys.kept_manifests(digest))
        return _unpacked(value) if value else []


def _row(values: Sequence[object]) -> str:
    """As the script writes it."""
    return json.dumps(values, separators=(",", ":"))


def _packed(manifests: Sequence[Manifest]) -> bytes:
    rows = [  # byte for byte, whatever they are
        [one.content.decode("latin-1"), one.media_type, one.digest.partition(":")[0]] for one in manifests
    ]
    return zlib.compress(json.dumps(rows).encode(), 9)


def _unpacked(value: bytes) -> list[Manifest]:
    rows = json.loads(zlib.decompress(value))
    return [Manifest.parse(content.encode("latin-1"), *kind) for content, *kind in rows]
