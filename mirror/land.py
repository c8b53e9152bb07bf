"""Land: make every target of a region hold all content of a batch: blobs first, then manifests by digest.

No tag moves here. Every function may run twice, at any moment, anywhere (G6): each looks at what is
there before it does anything.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from mirror.anywhere import Anywhere
from mirror.damage import Part
from mirror.engine import Cancelled, Engine, Progress
from mirror.fixed import immovable
from mirror.ledger.batches import BEFORE_FLIP, Outcome, Outcomes, Placed, Placing, View
from mirror.ledger.newer import own_fields
from mirror.plan import BlobWork, split_hauls
from mirror.seal import seal
from mirror.stage import Stage
from mirror.survey import survey
from mirror.transfer import LONGEST_BUSY_S, Busy, Carrier
from mirror.two_way import meanwhile
from mirror.verify import mark_damage, still_wrong, verify
from mirror.waits import failure
from registry.descriptor import Descriptor
from registry.errors import NotFound, RegistryError, Throttled
from registry.reference import LAYOUT
from registry.repository import Repository

LAND = "land"
CANCELLED = Outcome("cancelled", "the run was cancelled")
BUSY_WAIT_S = 0.05
MAX_BUSY_WAIT_S = 1.0
BUSY_RETRY_S = 10.0
"""Not an outage, however long it takes: the other worker's copy may be many GB."""

Heard = Callable[[dict[str, int]], None]


def land(
    engine: Engine,
    batch: str,
    region: str,
    *,
    hauls: bool,
    heard: Heard | None = None,
    view: View | None = None,
) -> list[str]:
    """Land the batch in the region's targets; returns the digests to haul as tasks of their own.

    With ``hauls`` False every blob is brought here and now. What fails is recorded by tag and target,
    never raised: only the ledger's own failures rise. Whoever settles the last thing due, this call or
    the last haul, puts the manifests. ``view``: as for :meth:`mirror.stage.Stage.open`.
    """
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region, heard), view)
    if stage.view.is_through(region, "landing"):
        return []  # this message came late
    if stage.spec.verifies and not stage.view.is_cancelled:
        _verify(stage)
        return []
    if hauls:
        engine.ledger.batches.due(batch, region, LAND)
    else:
        engine.ledger.batches.due_alone(batch, region, LAND)
    sent: list[str] = []
    try:
        if not stage.view.is_cancelled:
            sent = _bring(stage, hauls=hauls)
    except Exception:
        engine.ledger.batches.record(batch, stage.news())  # what was seen is not lost with what went wrong
        raise
    if stage.view.is_cancelled or stage.progress.cancelled:
        _end_missing(stage, CANCELLED)
    if stage.settle(LAND):
        seal(stage)
    else:
        stage.progress.flush()
    return sent


def _verify(stage: Stage) -> None:
    try:
        verify(stage)
    except Cancelled:
        _end_missing(stage, CANCELLED)
        stage.end("landed", BEFORE_FLIP)


def _bring(stage: Stage, *, hauls: bool) -> list[str]:
    """Bring the blobs that are missing, but for those that are hauled: their digests."""
    sent: list[str] = []
    due = stage.engine.ledger.batches.due
    with contextlib.suppress(Cancelled):
        if stage.spec.kind == "repair":
            mark_damage(stage)
        else:
            _look(stage)
        own, far = survey(stage), list[BlobWork]()
        if hauls:
            own, far = split_hauls(own, stage.engine.limits.haul_bytes)
        sent += [
            one.blob.digest
            for one in far
            if due(stage.batch, stage.region, one.blob.digest, _note(stage, one))
        ]
        _carry(stage, own, _empty(stage, own))
    return sent


def haul(engine: Engine, batch: str, region: str, digest: str, *, heard: Heard | None = None) -> None:
    """Bring one large blob to the region's targets; a blob that is not due any more is left alone."""
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region, heard))
    note = engine.ledger.batches.due_document(batch, region, digest)
    if note is None:
        return
    for name, part in note.get("again", {}).items():
        stage.again[digest, name] = Part(**own_fields(Part, part))
    with contextlib.suppress(Cancelled):
        _carry(stage, [BlobWork(Descriptor.parse(note["blob"]), tuple(note["targets"]))])
    if stage.progress.cancelled:
        _end_missing(stage, CANCELLED)
    if stage.settle(digest):
        stage.read_again()
        seal(stage)
    else:
        stage.progress.flush()


def _look(stage: Stage) -> None:
    """HEAD every tag in every target: equal is current; the rest is missing, with what was there before.

    What an earlier attempt at this batch has settled, proved just now, or parked for later stays as it is.
    """
    known, now = stage.outcomes, stage.view.now
    known.update(_believed(stage))
    with stage.engine.crew() as crew:
        asked = {
            (one.tag, name): crew.submit(_look_at, stage, one.tag, wanted, target)
            for one, wanted, name, target in stage.pairs
            if _is_open(stage.engine, known.get((one.tag, name)), now)
        }
        looked = {pair: answer.result() for pair, answer in asked.items()}
    known.update({**looked, **immovable(stage, looked)})


def _believed(stage: Stage) -> Outcomes:
    """What the mirror's ``trust_ledger_for`` spares its targets: tags that nothing is known of yet."""
    if not stage.spec.trust_s:
        return {}
    since, wanted = stage.view.now - stage.spec.trust_s, defaultdict[str, dict[str, str]](dict)
    for one, at, name, _ in stage.pairs:
        if (one.tag, name) not in stage.outcomes:
            wanted[name][one.tag] = at.digest
    proofs = stage.engine.ledger.proofs
    return {
        (tag, name): Outcome("current", previous=digests[tag])
        for name, digests in wanted.items()
        for tag in proofs.known(name, digests, since)
    }


def _is_open(engine: Engine, known: Outcome | None, now: float) -> bool:
    if known is None or known.state == "missing":
        return True
    if known.state == "landed":
        return now - known.at > engine.proof_s
    return known.state == "waiting" and known.at <= now


def _look_at(stage: Stage, tag: str, wanted: Descriptor, target: Repository) -> Outcome:
    try:
        held = stage.engine.patience.attempt(lambda: target.resolve(tag))
    except NotFound:
        return meanwhile(stage, tag, target.name, None) or Outcome("missing")
    except RegistryError as error:
        return failure(stage.engine, stage.batch, error)
    if other := meanwhile(stage, tag, target.name, held.digest):
        return other
    if held.digest == wanted.digest:
        return Outcome("current", previous=held.digest, at=stage.view.now)
    return Outcome("missing", previous=held.digest)


def _note(stage: Stage, work: BlobWork) -> dict[str, object]:
    again = {name: asdict(part) for (digest, name), part in stage.again.items() if digest == work.blob.digest}
    return {"blob": work.blob.document(), "targets": work.targets, "again": again}


def _empty(stage: Stage, works: Sequence[BlobWork]) -> frozenset[str]:
    """Targets that held nothing when the run came to them: a list of tags saves a HEAD for each blob.

    What is there since is this run's own, and in the ledger.
    """
    content, run, found = stage.engine.ledger.content, stage.run, set[str]()
    for name, target in stage.targets.items():
        known = content.was_empty(run, name)
        if known is not None:
            found |= {name} if known else set()
            continue
        states = [stage.outcomes[one.tag, name] for one in stage.tags]
        is_new = all(state.state == "missing" and state.previous is None for state in states)
        saves = sum(name in work.targets for work in works) > 1 and target.host != LAYOUT
        if not (is_new and saves) or stage.engine.ledger.batches.has_claims(name):
            continue
        is_empty = _holds_nothing(target)
        if is_empty is not None and content.note_empty(run, name, is_empty=is_empty):
            found.add(name)
    return frozenset(found)


def _holds_nothing(target: Repository) -> bool | None:
    """Whether it lists no tag; None where it does not say: then it is asked for each blob."""
    try:
        return not next(target.tags(), None)
    except NotFound:
        return True
    except RegistryError:
        return None


def _carry(stage: Stage, works: Iterable[BlobWork], empty: frozenset[str] = frozenset()) -> None:
    """Bring all blobs, several at a time; one that another worker is bringing is come back to later.

    Where that takes long, the tags that need it wait in the ledger instead of in this slot.
    """
    todo, begun = deque((work, 0) for work in works), time.monotonic()
    stage.progress.expect(sum(len(work.targets) for work, _ in todo))
    carrier = stage.carrier(empty)

    def carry() -> None:
        while todo:
            try:
                work, tries = todo.popleft()
            except IndexError:
                return
            try:
                stage.placed.update(_place(stage, carrier, work))
            except Busy as busy:
                if time.monotonic() - begun > LONGEST_BUSY_S:
                    stage.placed.update(_left_to(busy, work))
                    continue
                todo.append((work, tries + 1))
                threading.Event().wait(min(MAX_BUSY_WAIT_S, BUSY_WAIT_S * 2**tries))

    with stage.engine.crew() as crew:
        for done in [crew.submit(carry) for _ in range(min(stage.engine.limits.copy_threads, len(todo)))]:
            done.result()


def _left_to(busy: Busy, work: BlobWork) -> Placed:
    error = Throttled(busy.place, work.blob.digest, busy.reason, retry_after_s=BUSY_RETRY_S)
    return {(work.blob.digest, name): Placing.failed(error) for name in work.targets}


def _place(stage: Stage, carrier: Carrier, work: BlobWork) -> Placed:
    stage.progress.check()
    source, damaged = stage.source, [name for name in work.targets if (work.blob.digest, name) in stage.again]
    if damaged and isinstance(source, Anywhere):
        source = source.without(damaged)
    placed = carrier.place(work.blob, source, [stage.targets[name] for name in work.targets])
    for name in damaged:
        if placed[name].how != "failed" and (kept := still_wrong(stage, name, work.blob.digest)):
            placed[name] = kept
    result = {(work.blob.digest, name): placing for name, placing in placed.items()}
    stage.progress.add(**_counts(work.blob, result.values()))
    return result


def _counts(blob: Descriptor, placings: Iterable[Placing]) -> dict[str, int]:
    """Blobs and bytes by how they came; copied bytes were counted as they flowed."""
    counts: dict[str, int] = {}
    for placing in placings:
        if placing.how == "failed":
            continue
        counts[f"{placing.how}_blobs"] = counts.get(f"{placing.how}_blobs", 0) + 1
        if placing.how != "copied":
            counts[f"{placing.how}_bytes"] = counts.get(f"{placing.how}_bytes", 0) + blob.size
    return counts


def give_up(engine: Engine, batch: str, region: str, error: Exception) -> None:
    """End a region's landing after a fault nobody foresaw: what has not landed fails with it, by name."""
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region))
    _end_missing(stage, Outcome.failed(error))
    engine.ledger.batches.due_alone(batch, region, LAND)
    stage.settle(LAND)
    engine.ledger.batches.region_done(batch, region, "landed")


def _end_missing(stage: Stage, outcome: Outcome) -> None:
    """What has not landed will not."""
    for one, _, name, _ in stage.pairs:
        known = stage.outcomes.get((one.tag, name))
        if known is None or known.state in {"missing", "waiting"}:
            stage.outcomes[one.tag, name] = outcome
