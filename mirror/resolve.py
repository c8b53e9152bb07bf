"""Which digests a batch is about: one request per tag at the source, kept for the whole life of the batch.

A HEAD, which costs nothing of a budget. A tag that no target ever had by us is going to be read anyway:
where reading is not rationed, its one GET says which digest it is too. A rollback knows its digests, and
whether they are whole is each region's to say: nobody else may reach its targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mirror.anywhere import hosts_of
from mirror.budget import COUNTING_HOSTS
from mirror.engine import Engine
from mirror.ledger.batches import Resolved, View
from mirror.ledger.pins import Pin
from mirror.pinned import follows_pins, nowhere, pinned_at, unless_pinned
from mirror.spec import MirrorSpec
from mirror.telling import tell_wait
from mirror.two_way import look, remembering
from mirror.waits import next_attempt
from registry.deletion import is_tombstone
from registry.descriptor import Descriptor, is_digest
from registry.errors import NotFound, RegistryError, Transient
from registry.manifest import Manifest
from registry.reference import LAYOUT
from registry.repository import Source

RATIONED = COUNTING_HOSTS | {LAYOUT}
"""Where a GET of a manifest is a pull and a HEAD is none; and a folder, which is asked for nothing twice."""
UNREAD = "application/octet-stream"
"""The media type of what is known by its digest only."""
KEPT_TOGETHER_BYTES = 2**16
"""A larger manifest goes to the ledger at once instead of with the others: bounds a worker's memory (G10)."""


def resolve(engine: Engine, batch: str, view: View | None = None) -> View | None:
    """Resolve every tag that is not yet resolved; a tag that cannot be keeps the reason.

    Returns the batch on its way to landing; None where another has moved it on, or the source is in trouble
    that may pass: then the batch is parked until its next attempt. ``view``: the batch as it is now.
    """
    ledger = engine.ledger.batches
    view = view or ledger.view(batch)
    spec = engine.spec_of(batch, view)
    todo = [one for one in view.resolved if one.descriptor is None and not one.reason]
    run = ledger.run_of(batch)
    if spec.kind == "rollback":
        _recall(engine, todo)
        engine.ledger.gone.forget(spec.name, [one.tag for one in todo])
        engine.ledger.pins.put(spec.name, run, {one.tag: one.ref for one in todo}, new=spec.pin)
    read: list[Manifest] = []
    answers, pins = _ask(engine, run, spec, todo, read)
    waits = [(next_attempt(engine, batch, one), str(one)) for one in answers if isinstance(one, Transient)]
    until, reason = max(((at, why) for at, why in waits if at is not None), default=(None, ""))
    resolved = [
        _unresolved(one, answer) if isinstance(answer, RegistryError) else unless_pinned(spec, answer, pins)
        for one, answer in zip(todo, answers, strict=True)
        if until is None or not isinstance(answer, Transient)
    ]
    if until is None:
        pipe = engine.ledger.together()
        engine.ledger.content.keep_manifests(read, on=pipe)
        return ledger.end_resolving(batch, resolved, after=pipe)
    engine.ledger.content.keep_manifests(read)
    ledger.set_resolved(batch, resolved)
    if engine.ledger.park(batch, "resolving", until):
        tell_wait(batch, reason, until)
    return None


def _recall(engine: Engine, todo: Sequence[Resolved]) -> None:
    """What is kept of the digests is in the fleet's cache: registries may have lost the manifests."""
    for one in todo:
        if is_digest(one.ref):
            engine.ledger.content.keep_manifests(engine.ledger.keeps.manifests(one.ref))


def _ask(
    engine: Engine, run: str, spec: MirrorSpec, todo: Sequence[Resolved], read: list[Manifest]
) -> tuple[list[Resolved | RegistryError], Mapping[str, Pin]]:
    """What the source says of each tag, of a two-way mirror what its sides do; and how tags are pinned.

    New manifests are ``read``.
    """
    source = engine.open_source(run, spec)
    # Who only looks needs no manifest yet.
    may_read = spec.kind in {"mirror", "repair"} and not spec.is_two_way
    reads = may_read and not RATIONED & hosts_of(source)
    targets = [target.repository for target in spec.targets] if reads else []
    tags = [one.tag for one in todo]
    generation, now, new, pins = engine.ledger.begin_question(targets, tags, spec.name)
    asked = [replace(one, generation=generation, at=now) for one in todo]
    if spec.is_two_way:
        return look(engine, run, spec, asked, pins), pins
    if spec.kind == "rollback":
        recalled = remembering(engine, spec, asked) if spec.two_way else asked
        return [replace(one, descriptor=Descriptor(UNREAD, one.ref, 0)) for one in recalled], pins
    pinned = pins if follows_pins(spec) else {}
    found = iter(_ask_source(engine, source, [one for one in asked if one.tag not in pinned], new, read))
    answers = [
        _at_pin(engine, run, spec, one, pinned[one.tag]) if one.tag in pinned else next(found)
        for one in asked
    ]
    return answers, pins


def _ask_source(
    engine: Engine, source: Source, asked: Sequence[Resolved], new: Collection[str], read: list[Manifest]
) -> list[Resolved | RegistryError]:
    hosts, answers = hosts_of(source), list[Resolved | RegistryError]()
    if new and asked and any(engine.counts_pulls(host) is None for host in hosts):
        answers.append(_resolve(engine, source, asked[0], None))  # its answer says that, too
    if any(engine.counts_pulls(host) for host in hosts):
        new = frozenset()
    with engine.crew() as crew:
        left = asked[len(answers) :]
        answers += crew.map(lambda one: _resolve(engine, source, one, read if one.tag in new else None), left)
    return answers


def _at_pin(engine: Engine, run: str, spec: MirrorSpec, one: Resolved, pin: Pin) -> Resolved | RegistryError:
    at = pinned_at(engine, run, spec, pin)
    if isinstance(at, NotFound):
        return nowhere(one, pin, at)
    return at if isinstance(at, RegistryError) else replace(one, descriptor=at)


def _resolve(
    engine: Engine, source: Source, one: Resolved, read: list[Manifest] | None
) -> Resolved | RegistryError:
    """A new tag, whose manifest is needed anyway, is ``read``."""
    try:
        if read is None:
            at = engine.patience.attempt(lambda: source.resolve(one.ref))
            _refuse_tombstone(source, one.ref, at.digest)
            return replace(one, descriptor=at)
        manifest = engine.patience.attempt(lambda: source.manifest(one.ref))
        _refuse_tombstone(source, one.ref, manifest.digest)
    except NotFound as error:
        kept = engine.ledger.content.manifest(one.ref) if is_digest(one.ref) else None
        return error if kept is None else replace(one, descriptor=_named(kept))
    except RegistryError as error:
        return error
    if manifest.size > KEPT_TOGETHER_BYTES:
        engine.ledger.content.keep_manifest(manifest)
    else:
        read.append(manifest)
    return replace(one, descriptor=_named(manifest))


def _refuse_tombstone(source: Source, tag: str, digest: str) -> None:
    """Raise NotFound for what is there only until it is deleted, which is no image of anybody's."""
    if is_tombstone(source.name, tag, digest):
        raise NotFound(source.host, f"{source.name}:{tag}", "is just being deleted")


def _named(manifest: Manifest) -> Descriptor:
    return Descriptor(manifest.media_type, manifest.digest, manifest.size)


def _unresolved(one: Resolved, error: RegistryError) -> Resolved:
    return Resolved(one.tag, one.ref, None, str(error), type(error).__name__)
