"""An image of each mirror that its registries are known to hold: what probes ask for and read a layer of.

Noted whenever a batch is concluded, so that nobody has to list tags or read a manifest to know of one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mirror.ledger.keys import Client, Keys
from mirror.ledger.lasting import Lasting
from mirror.ledger.values import Outcomes, Resolved
from mirror.spec import MirrorSpec
from registry.descriptor import Descriptor

_GOOD = {"updated": 1, "current": 0}


@dataclass(frozen=True, slots=True)
class Sample:
    """One tag's image, which is everywhere that the mirror's targets are."""

    tag: str
    root: Descriptor
    rest: str = ""
    """Of a wildcard: what it stands for."""


class Samples:
    """By mirror; of each the one that a run of it was about last."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys

    def of(self, mirrors: Sequence[str]) -> dict[str, Sample]:
        """A mirror of which none is known is left out."""
        rows: list[bytes | None] = self._redis.hmget(self._keys.samples, list(mirrors)) if mirrors else []
        found: dict[str, Sample] = {}
        for mirror, row in zip(mirrors, rows, strict=True):
            if row:
                tag, root, rest = json.loads(row)
                found[mirror] = Sample(tag, Descriptor.parse(root), rest)
        return found

    def keep_only(self, mirrors: Collection[str]) -> None:
        """Forget those of all others."""
        others = [name for name in self._redis.hkeys(self._keys.samples) if name.decode() not in mirrors]
        if others:
            self._redis.hdel(self._keys.samples, *others)


def sample_of(
    keys: Keys, resolved: Sequence[Resolved], outcomes: Outcomes, spec: MirrorSpec
) -> Iterator[Lasting]:
    """What a batch that is being concluded leaves for probes: the last tag that moved, or else is there."""
    if spec.ad_hoc:
        return
    best: tuple[int, Resolved, Descriptor] | None = None
    for one in resolved:
        own = [outcomes.get((one.tag, target.repository)) for target in spec.targets]
        states = [outcome.state for outcome in own if outcome]
        if one.descriptor is None or len(states) < len(own) or not all(state in _GOOD for state in states):
            continue
        rank = max(_GOOD[state] for state in states)
        if best is None or rank >= best[0]:
            best = rank, one, one.descriptor
    if best is not None:
        _, one, root = best
        bare = Descriptor(root.media_type, root.digest, root.size)
        row = [one.tag, bare.document(), spec.rest]
        yield Lasting(keys.samples, spec.mirror, json.dumps(row, separators=(",", ":")))
