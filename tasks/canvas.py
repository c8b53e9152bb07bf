"""The run as Celery sees it: which task is sent where, with what as its title; chords and their bodies.

Messages carry ids only. Titles are for people who watch Flower; no code reads them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Literal

from celery import Signature, Task, chord, signature

from mirror.ledger import Ledger
from mirror.spec import Lane, MirrorSpec
from registry.descriptor import abridged

CONTROL_QUEUE = "control"
Turn = Literal["first"] | Lane
"""Whose turn a message is: ``first`` is what nothing may come before, else its run's lane."""
PRIORITY: dict[Turn, int] = {"first": 0, "release": 3, "backfill": 9}
"""0 is the highest on Redis; the steps of ``priority_steps``."""
Tags = Sequence[tuple[str, str]]
"""A batch's (target tag, source ref) pairs."""
FIRST = frozenset({"flip", "unflip", "conclude"})
"""From the first flip to the end the targets differ: no other work is worth making that longer."""


def send_enumerate(ledger: Ledger, run: str) -> None:
    spec = ledger.spec(run)
    _control("enumerate", [run], f"enumerate · {spec.name} at {spec.origin}", ledger.lane(run)).delay()


def send_sweep(older_than_s: float | None = None) -> None:
    _control("sweep", [older_than_s], "sweep", "first").delay()


def send_notify(receiver: str) -> None:
    _control("notify", [receiver], f"notify · {receiver}", "release").delay()


def sole_region(ledger: Ledger, batch: str) -> str | None:
    """The region of a batch that has one alone: it takes all steps there, with nobody to wait for."""
    regions = ledger.spec(ledger.batches.run_of(batch)).regions
    return regions[0] if len(regions) == 1 else None


def send_first(ledger: Ledger, batch: str, tags: Tags) -> None:
    """A batch begins: in its only region, or by being resolved for all of them."""
    region = sole_region(ledger, batch)
    if region:
        _region_task(ledger, "mirror", batch, region, tags=tags).delay()
    else:
        _batch_task(ledger, "resolve", batch, tags).delay()


def send_decision(ledger: Ledger, batch: str, name: Literal["finalize", "conclude"]) -> None:
    """Every region has taken the step before: have it decided what follows."""
    if sole_region(ledger, batch):
        send_mirror(ledger, batch, first=name == "conclude")
    else:
        _batch_task(ledger, name, batch).delay()


def send_mirror(ledger: Ledger, batch: str, *, first: bool = False) -> None:
    """A batch of one region goes on from wherever it is; ``first`` where it has begun to flip."""
    region = sole_region(ledger, batch)
    if region is None:
        raise ValueError(f"batch {batch} has several regions")
    _region_task(ledger, "mirror", batch, region, first=first).delay()


def send_resolve(ledger: Ledger, batch: str) -> None:
    _batch_task(ledger, "resolve", batch).delay()


def send_finalize(ledger: Ledger, batch: str) -> None:
    _batch_task(ledger, "finalize", batch).delay()


def send_conclude(ledger: Ledger, batch: str) -> None:
    _batch_task(ledger, "conclude", batch).delay()


def send_land(ledger: Ledger, batch: str, region: str) -> None:
    """Alone, outside any chord: it hauls nothing and asks for the finalizer itself."""
    _region_task(ledger, "land", batch, region).delay()


def send_flip(ledger: Ledger, batch: str, region: str) -> None:
    _region_task(ledger, "flip", batch, region).delay()


def send_unflip(ledger: Ledger, batch: str, region: str) -> None:
    _region_task(ledger, "unflip", batch, region).delay()


def send_prune(ledger: Ledger, run: str, region: str) -> None:
    title = f"prune · {ledger.spec(run).name} → {region}"
    _task("prune", [run, region], region, title, ledger.lane(run)).delay()


def send_probe(region: str, name: str, mirrors: Sequence[str] = ()) -> None:
    """Before all else, for seconds.

    Behind flips, which go first and are tried again while a registry is away, nobody would learn that it is.
    """
    _task("probe", [region, name, list(mirrors)], region, f"probe from {region}", "first").delay()


def land_everywhere(ledger: Ledger, batch: str) -> None:
    """``chord(land per region) → finalize``."""
    _in_every_region(ledger, "land", batch, "finalize")


def land_in(ledger: Ledger, batch: str, regions: Sequence[str]) -> None:
    """The same in some regions only: the others have landed and their proof is fresh."""
    _in_regions(ledger, "land", batch, "finalize", regions)


def flip_everywhere(ledger: Ledger, batch: str) -> None:
    """``chord(flip per region) → conclude``."""
    _in_every_region(ledger, "flip", batch, "conclude")


def unflip_everywhere(ledger: Ledger, batch: str) -> None:
    """``chord(unflip per region) → conclude``."""
    _in_every_region(ledger, "unflip", batch, "conclude")


def haul(ledger: Ledger, batch: str, region: str, digest: str) -> Signature:
    """One large blob as a task of its own, to be added to the chord of its ``land``."""
    spec = ledger.spec_of(batch)
    title = f"haul · {spec.name} {abridged(digest)} → {region}"
    return _task("haul", [batch, region, digest], region, title, ledger.lane(ledger.batches.run_of(batch)))


def grow(task: Task[..., Any], hauls: Sequence[Signature]) -> None:
    """Add hauls to the chord that ``task`` is one of.

    Celery counts by how much a chord has grown under a key that would outlive a chord that dies. Made
    beforehand with its end it keeps that end whoever is killed; a Redis that lost it is told once more.
    """
    if not hauls:
        return
    backend: Any = task.backend  # the Redis one: Celery's types know only what all have
    growth = backend.get_key_for_group(task.request.group, ".t")
    until = task.app.conf.result_chord_expires
    backend.client.set(growth, 0, nx=True, ex=until)
    for one in hauls:
        task.add_to_chord(one)
        backend.client.expire(growth, until)


def turn_of(ledger: Ledger, name: str, run: str) -> Turn:
    """When a task of that name has its turn: with its run's lane, or before both."""
    return "first" if name in FIRST else ledger.lane(run)


def mark(name: str, *ids: str) -> str:
    """How the id of a task about these begins: what the sweeper looks for in a queue."""
    return "".join(f"{part}-" for part in (name, *ids))


def title(spec: MirrorSpec, pairs: Tags) -> str:
    """``explorer v0.8…v0.9 (12 tags)``."""
    tags = [tag for tag, _ in pairs]
    if len(tags) == 1:
        return f"{spec.name} {tags[0]}"
    return f"{spec.name} {tags[0]}…{tags[-1]} ({len(tags)} tags)" if tags else spec.name


def _in_every_region(ledger: Ledger, header: str, batch: str, body: str) -> None:
    _in_regions(ledger, header, batch, body, ledger.spec(ledger.batches.run_of(batch)).regions)


def _in_regions(ledger: Ledger, header: str, batch: str, body: str, regions: Sequence[str]) -> None:
    tasks = [_region_task(ledger, header, batch, region) for region in regions]
    chord(tasks, _batch_task(ledger, body, batch)).apply_async()


def _batch_task(ledger: Ledger, name: str, batch: str, tags: Tags | None = None) -> Signature:
    run = ledger.batches.run_of(batch)
    shown = f"{name} · {title(ledger.spec_of(batch), tags or ledger.batches.tags(batch))}"
    return _control(name, [batch], shown, turn_of(ledger, name, run))


def _region_task(
    ledger: Ledger, name: str, batch: str, region: str, *, first: bool = False, tags: Tags | None = None
) -> Signature:
    run = ledger.batches.run_of(batch)
    shown = f"{name} · {title(ledger.spec_of(batch), tags or ledger.batches.tags(batch))} → {region}"
    turn: Turn = "first" if first else turn_of(ledger, name, run)
    return _task(name, [batch, region], region, shown, turn)


def _control(name: str, args: list[Any], shown: str, turn: Turn) -> Signature:
    return _task(name, args, CONTROL_QUEUE, shown, turn)


def _task(name: str, args: list[Any], queue: str, shown: str, turn: Turn) -> Signature:
    ids = [str(arg) for arg in args if not isinstance(arg, list)]
    options = {
        "task_id": f"{mark(name, *ids)}{secrets.token_hex(4)}",
        "queue": queue,
        "priority": PRIORITY[turn],
        "argsrepr": shown,
        "kwargsrepr": " ".join(str(arg) for arg in args if arg),  # what Flower's search finds them by
        "ignore_result": True,  # said here too, or every message sent subscribes to a result nobody reads
    }
    return signature(f"sealift.{name}", args=args, options=options, immutable=True)
