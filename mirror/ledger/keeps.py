"""Which of a tag's former digests are kept safe in a target, in which slot, and the bytes of their manifests.

The slots of a tag are a ring. It holds the last ``most`` digests that the tag had besides the one it is about
to have, so a tag has one slot more at most. Nothing is ever taken out of it but by something newer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

from mirror.ledger.keys import Client, Keys
from registry.manifest import Manifest

GONE_S = 6 * 3600
"""How long manifests outlive the last tag that keeps them: as long as any that was read."""

TAKE_SLOT = """
-- KEYS slots, manifests of the digest, who keeps it
-- ARGV tag, digest, the digest it is about to have, most, manifests, member, root of manifests, root of who
--   seconds that manifests outlive who keeps them
-- The slot of the digest: a second time it is the same.
local held = redis.call('HGET', KEYS[1], ARGV[1])
local left, others, slot, used = {}, {}, nil, {}
for _, row in ipairs(held and cjson.decode(held) or {}) do
  used[row[1]] = true
  if row[2] == ARGV[2] then
    slot = row[1]
  else
    left[#left + 1] = row
    if row[2] ~= ARGV[3] then others[#others + 1] = row end
  end
end
if not slot and #others >= tonumber(ARGV[4]) then
  local last = others[1]
  slot = last[1]
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
left[#left + 1] = {slot, ARGV[2]}
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(left))
redis.call('SET', KEYS[2], ARGV[5])
redis.call('SADD', KEYS[3], ARGV[6])
return slot
"""


class Keeps:
    """A fleet's kept digests."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._take = client.register_script(TAKE_SLOT)

    def take(self, repository: str, tag: str, wanted: str, most: int, manifests: Sequence[Manifest]) -> int:
        """The slot for what the tag is in a target, before it becomes ``wanted``; the root is first.

        Its manifests stay in the ledger for as long as a slot of any tag has them.
        """
        keys, root = self._keys, manifests[0].digest
        names = [keys.kept(repository), keys.kept_manifests(root), keys.kept_for(root)]
        words = [tag, root, wanted, most, _packed(manifests), f"{repository}\n{tag}"]
        return int(self._take(names, [*words, keys.kept_manifests(""), keys.kept_for(""), GONE_S]))

    def manifests(self, digest: str) -> list[Manifest]:
        """Those that are kept of it, the root first; none where no tag keeps it."""
        value: bytes | None = self._redis.get(self._keys.kept_manifests(digest))
        return _unpacked(value) if value else []


def _packed(manifests: Sequence[Manifest]) -> bytes:
    rows = [  # byte for byte, whatever they are
        [one.content.decode("latin-1"), one.media_type, one.digest.partition(":")[0]] for one in manifests
    ]
    return zlib.compress(json.dumps(rows).encode(), 9)


def _unpacked(value: bytes) -> list[Manifest]:
    rows = json.loads(zlib.decompress(value))
    return [Manifest.parse(content.encode("latin-1"), *kind) for content, *kind in rows]
