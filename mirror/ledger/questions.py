"""What a run has to know just before it asks its source what tags are."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.ledger.claim_scripts import CLAIM_KEEP_S
from mirror.ledger.keys import Client, Keys
from mirror.ledger.pins import Pin, Pins

Question = tuple[int, float, set[str], dict[str, Pin]]
"""A generation, the time, tags that are new to all targets, and pins by their tags."""


def begin(
    client: Client, keys: Keys, pins: Pins, targets: Sequence[str], tags: Sequence[str], pinned_of: str
) -> Question:
    """To be called just before the source is asked.

    A generation is higher than all before it. What was asked later is newer: the highest one wins at
    the flip (G5). New is a tag that no run ever moved in any target; without targets, none is. Pins are
    those of ``pinned_of``, a mirror's name; they were there when the generation was taken.
    """
    pipe = client.pipeline(transaction=False)
    pipe.incr(keys.generation).time()
    pins.ask(pinned_of, tags or ("",), pipe)
    for repository in targets if tags else ():
        newest = keys.newest(repository)
        pipe.hmget(newest, list(tags)).expire(newest, CLAIM_KEEP_S)
    generation, (seconds, micros), rows, *found = pipe.execute()
    claims = zip(*found[::2], strict=True)
    new = {tag for tag, claimed in zip(tags, claims, strict=False) if not any(claimed)}
    return int(generation), seconds + micros / 1e6, new, pins.read(pinned_of, tags, rows) if tags else {}
