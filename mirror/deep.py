"""The deep part of verifying: bytes are read and hashed, within what the run may read and as fast as it may.

What was read, and when, is in the ledger: a run that had to stop goes on in the next one with what was not
read since the pass began. A slot is left after SLICE_S, or one blob; the batch comes back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mirror.damage import Flaw, Part, gone, other_bytes
from mirror.places import counts
from mirror.reading import Reading
from mirror.spec import Verification
from mirror.stage import Stage
from mirror.threads import Crew
from mirror.transfer import path_of
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, NotFound, RegistryError

SLICE_S = 600.0
_ANY_KIND = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Later:
    """It is to be read, and this step has no time left for it."""


Read = Flaw | RegistryError | Later
Wanted = tuple[str, Part]
"""(target repository, what it has to hold)."""


def read_parts(stage: Stage, crew: Crew, wanted: Sequence[Wanted]) -> dict[Wanted, Read]:
    """Read those whose turn it is; what is wrong with them. What the run may read no more of is left out."""
    until = time.monotonic() + SLICE_S
    verified = stage.engine.ledger.verified
    since = verified.begin_pass(stage.spec.mirror)
    parts = [(name, part) for name, part in wanted if _is_readable(stage, name, part)]
    unread = verified.unread(since, [_place(stage, *one) for one in parts])
    due = [one for one, is_due in zip(parts, unread, strict=True) if is_due]
    answers = crew.map(lambda one: _read_in_time(stage, one, until), due)
    return {one: answer for one, answer in zip(due, answers, strict=True) if answer is not None}


def _is_readable(stage: Stage, name: str, part: Part) -> bool:
    if part.kind == "manifest":
        return not counts(stage.engine, stage.targets[name].host)
    return part.kind == "blob"


def _place(stage: Stage, name: str, part: Part) -> tuple[str, str, str]:
    target = stage.targets[name]
    return target.host, path_of(target), part.digest


def _read_in_time(stage: Stage, wanted: Wanted, until: float) -> Read | None:
    name, part = wanted
    how, verified = _terms(stage), stage.engine.ledger.verified
    if time.monotonic() > until:
        return Later()
    if not verified.reserve(stage.run, part.size, how.most_bytes):
        return None
    answer = read_part(stage, name, part)
    if answer is None:
        verified.note_read(*_place(stage, name, part))
    return answer


def _terms(stage: Stage) -> Verification:
    return stage.spec.verification or Verification()


def read_part(stage: Stage, name: str, part: Part) -> Flaw | RegistryError | None:
    """Read one and hash it; what is wrong with it."""
    target, patience = stage.targets[name], stage.engine.patience
    try:
        if part.kind == "manifest":
            patience.attempt(lambda: target.manifest(part.digest))
            return None
        with Reading(Descriptor(_ANY_KIND, part.digest, part.size), target, patience) as reading:
            for block in reading.take(part.size):
                stage.progress.add()
                _keep_pace(stage, len(block))
    except NotFound:
        return gone(part)
    except DigestMismatch as error:
        return other_bytes(part, error.reason)
    except RegistryError as error:
        return error
    return None


def _keep_pace(stage: Stage, size: int) -> None:
    """The whole fleet's: whoever has read waits until all that was read is within the rate."""
    rate = _terms(stage).bytes_per_s
    if rate:
        wait_s = stage.engine.ledger.verified.take_turn(stage.run, size, rate)
        stage.engine.patience.wait(max(0.0, wait_s))
