"""The deep part of verifying: bytes are read and hashed, within what the run may read and as fast as it may.

What was read, and when, is in the ledger: a run that had to stop goes on in the next one with what was not
read since the pass began. A slot is left after SLICE_S, or one blob; the batch comes back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mirror.damage import Flaw, Part, gone, other_bytes
from mirror.ledger.passes import Known, Pass, Passes
from mirror.places import counts
from mirror.reading import Reading
from mirror.stage import Stage
from mirror.threads import Crew
from mirror.transfer import path_of
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, NotFound, RegistryError

SLICE_S = 600.0
_ANY_KIND = "application/octet-stream"
_FOUND_BEFORE = "has other bytes, as was found in this pass before; a repair or the next pass reads it again"


@dataclass(frozen=True, slots=True)
class Later:
    """It is to be read, and this step has no time left for it."""


@dataclass(frozen=True, slots=True)
class Left:
    """It is to be read by another run of the pass: this one may read no more."""


Read = Flaw | RegistryError | Later | Left
Wanted = tuple[str, Part]
"""(target repository, what it has to hold)."""


def read_parts(stage: Stage, crew: Crew, wanted: Sequence[Wanted]) -> dict[Wanted, Read]:
    """Read those that were not read in the pass; what is wrong with them, or why it is not known."""
    reader = _Reader(stage, time.monotonic() + SLICE_S)
    parts = [(name, part) for name, part in wanted if _is_readable(stage, name, part)]
    known = reader.passes.known(reader.own, [_place(stage, *one) for one in parts])
    due: list[tuple[Wanted, Known]] = [
        (one, how) for one, how in zip(parts, known, strict=True) if how != "read"
    ]
    answers = crew.map(lambda one: reader.read(*one), due)
    return {one: answer for (one, _), answer in zip(due, answers, strict=True) if answer is not None}


def _is_readable(stage: Stage, name: str, part: Part) -> bool:
    if part.kind == "manifest":
        return not counts(stage.engine, stage.targets[name].host)
    return part.kind == "blob"


def _place(stage: Stage, name: str, part: Part) -> tuple[str, str, str]:
    target = stage.targets[name]
    return target.host, path_of(target), part.digest


class _Reader:
    """One step's reading, within what its run may read."""

    def __init__(self, stage: Stage, until: float) -> None:
        """``until``: by this process's monotonic clock."""
        self._stage, self._until = stage, until
        self.passes: Passes = stage.engine.ledger.verified.passes
        self.own = self.passes.of(stage.run, stage.engine.ledger.spec(stage.run))

    def read(self, wanted: Wanted, known: Known) -> Read | None:
        """None: it is what it should be.

        Where bytes are counted, what the pass has found wrong is not read again: it would come first in each
        run, and nothing else would ever be read. Whoever repairs it reads it once it was sent again.
        """
        name, part = wanted
        if known == "wrong" and self.own.most_bytes:
            return Flaw(part, f"{part.name} {_FOUND_BEFORE}", is_there=True)
        if time.monotonic() > self._until:
            return Later()
        if not self.passes.reserve(self.own, part.size):
            return Left()
        is_read = False
        try:
            answer = read_part(self._stage, name, part, self.own)
            is_read = not isinstance(answer, RegistryError)
        finally:  # the run may be cancelled in the middle of it
            if not is_read:
                self.passes.give_back(self.own, part.size)
        return answer


def read_part(
    stage: Stage, name: str, part: Part, reserved: Pass | None = None
) -> Flaw | RegistryError | None:
    """Read one and hash it; what is wrong with it. What was found is kept for the pass.

    ``reserved``: the pass in which its bytes were, if they are counted at all.
    """
    answer = _hashed(stage, name, part)
    if not isinstance(answer, RegistryError):
        passes = stage.engine.ledger.verified.passes
        is_wrong, place = answer is not None, _place(stage, name, part)
        passes.note(stage.run, place, part.size, is_wrong=is_wrong, reserved=reserved)
    return answer


def _hashed(stage: Stage, name: str, part: Part) -> Flaw | RegistryError | None:
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
    rate = stage.spec.verification.bytes_per_s if stage.spec.verification else 0
    if rate:
        wait_s = stage.engine.ledger.verified.passes.take_turn(stage.run, size, rate)
        stage.engine.patience.wait(max(0.0, wait_s))
