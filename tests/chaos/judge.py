"""What the storm did, put together from four witnesses: observer, proxies, registries and ledger."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from mirror.select import is_keeper_tag
from registry.deletion import tombstone
from tests.chaos.figures import (
    QUEUE_STEPS,
    Result,
    SideFigures,
    keys_by_kind,
    unexplained,
)
from tests.chaos.judge_events import event_figures, judge_notices, judge_probes
from tests.chaos.judge_sides import judge_sides
from tests.chaos.progress import Heal
from tests.chaos.proxy import Put
from tests.chaos.reading import Place, Reader
from tests.chaos.sides import SIDES
from tests.chaos.storm import CLASSES, Storm
from tests.chaos.told import Told, Where, tell
from tests.chaos.world import REGIONS, TagAt, World
from tests.support.waiting import eventually

HAD_MOVED = "it had moved and went back"
REMOVED = "was removed again"
NOBODY: Mapping[str, str] = MappingProxyType({})
LEFTOVERS_S = 60.0
"""How long messages of dead workers may wait to be taken up: the visibility timeout and some."""


def judge(
    storm: Storm, before: dict[str, int], observed: Path, *, settled: bool, observer_code: int
) -> Result:
    """Every figure, and everything that was violated."""
    world, fleet = storm.world, storm.fleet
    seen = [json.loads(line) for line in observed.read_text().splitlines()] if observed.exists() else []
    verdict = next((one for one in reversed(seen) if one["kind"] == "verdict"), None)
    violations: list[str] = []
    if verdict is None:
        violations.append(f"the observer ended with {observer_code} and without a verdict")
    puts, pushes = world.fabric.puts(), world.sides.pushes
    told = list(tell(fleet.ledger, fleet.client, {one.host: name for name, one in world.proxies.items()}))
    violations += unowned(verdict["violations"] if verdict else [], told)
    violations += early_flips(puts, {name: one.host for name, one in world.proxies.items()}, pushes)
    violations += left_behind(puts, told, seen)
    violations += never_put([*puts, *pushes], told)
    went_back, unexplained_backs = regressions(seen, world, returned(told), rolled_back(told))
    violations += unexplained_backs
    violations += piled_up(world)
    sides = judge_sides(world.sides, fleet.ledger, puts, world.fabric.looks())
    violations += sides.violations + no_rest(*storm.written)
    violations += judge_probes(fleet, storm.outages) + judge_notices(fleet, storm.receiver)
    lost = differing(world)
    leftover = _leftovers(storm)
    one_way = [one for one in seen if "tag" in one and one["tag"] and one["tag"][0] not in SIDES]
    moved = [one for one in one_way if one["kind"] == "moved" and one["now"]]
    windows = [one["seconds"] for one in one_way if one["kind"] == "window"] or [0.0]
    heal = max(storm.progress.heals, default=Heal(0.0, 0.0, "", ()))
    return Result(
        plan=storm.plan,
        faults=dict(storm.faults),
        classes=CLASSES,
        tags=len(world.tags),
        targets=len(REGIONS),
        moves=world.moves,
        flips=len(moved),
        observed=Counter(verdict["counts"] if verdict else {}),
        runs=storm.progress.ended,
        violations=violations,
        lost=lost,
        stuck=[] if settled else sorted(storm.progress.open) or ["a run that was asked for never began"],
        leftover=leftover,
        rollbacks=storm.people.rollbacks,
        events=event_figures(fleet, storm.outages, storm.receiver),
        sides=SideFigures(len(pushes), storm.people.decisions, sides.settled, sides.held, sides.met),
        went_back=went_back,
        longest_heal_s=heal.seconds,
        longest_heal_of=[f"{heal.run} at {heal.at:.1f} s", *dict.fromkeys(heal.faults)],
        window_median_s=median(windows),
        window_worst_s=max(windows),
        copied_twice=_copied_twice(world),
        copied=sum(size for proxy in world.proxies.values() for _, size in proxy.uploads),
        keys_before=before,
        keys_after=keys_by_kind(fleet.client),
        unexplained_keys=unexplained(fleet.client),
        restarts=dict(fleet.deaths),
        networks=list(fleet.wans),
    )


def no_rest(before: Counter[str], after: Counter[str]) -> list[str]:
    """What was written although nothing was left to do, be it what had been written before."""
    return [f"no rest: {one} was written at the end" for one in sorted(after - before)]


def unowned(violations: Iterable[dict[str, Any]], told: Sequence[Told]) -> list[str]:
    """Without those tags that are gone because a run that had put them removed them again, and says so."""
    removed = {where for one in told for where, outcome in one.outcomes.items() if REMOVED in outcome.reason}
    return [
        json.dumps(one)
        for one in violations
        if one["rule"] != "vanished" or Where(one["target"], *one["tag"]) not in removed
    ]


def early_flips(
    puts: Iterable[Put], hosts: Mapping[str, str] = NOBODY, pushes: Iterable[Put] = ()
) -> list[str]:
    """Tags that were put while another target had not been given the manifest: read off the wire.

    These registries take a manifest only with everything it refers to, so having it is having all.
    ``hosts``, by the registries' names, say how the fleet calls what it moves a tag to in order to delete it.
    ``pushes`` are what people put there: what is put back where it was pushed no other side has to hold.
    """
    pushes = list(pushes)
    own = {(one.registry, one.repository, one.reference, one.digest) for one in pushes}
    held: dict[tuple[str, str, str], float] = {}
    given = [
        put
        for put in puts
        if put.digest and put.status in {0, 201} and not _deletes(put, hosts.get(put.registry, ""))
    ]
    for put in (*given, *pushes):
        key = (put.registry, put.repository, put.digest)
        held[key] = min(held.get(key, put.done), put.done)
    return [
        f"G2 on the wire: {put.registry} was given {put.repository}:{put.reference} = {put.digest} "
        f"while {other} did not hold it"
        for put in given
        if ":" not in put.reference
        and not is_keeper_tag(put.reference)  # which each target has for itself
        and (put.registry, put.repository, put.reference, put.digest) not in own
        for other in SIDES.get(put.repository, REGIONS)
        if other != put.registry and held.get((other, put.repository, put.digest), float("inf")) > put.begun
    ]


def _deletes(put: Put, host: str) -> bool:
    return put.digest == tombstone(f"{host}/{put.repository}", put.reference).digest


def left_behind(puts: Iterable[Put], told: Sequence[Told], seen: Iterable[dict[str, Any]]) -> list[str]:
    """Tags that stayed at a digest where their move is said to have failed, and went back elsewhere (G2).

    A registry can take a PUT of which its client hears nothing: the wire knows, whatever the run says.
    """
    given: dict[Where, list[Put]] = defaultdict(list)
    for put in puts:
        given[Where(put.registry, put.repository, put.reference)].append(put)
    looks: dict[Where, list[tuple[float, str]]] = defaultdict(list)
    for one in seen:
        if one["kind"] == "moved":
            looks[Where(one["target"], *one["tag"])].append((one["at"], one["now"] or ""))
    return [
        f"G2 left behind: {where} stayed at {one.digest} although its move failed there, and "
        f"batch {one.batch} took it back elsewhere"
        for one in told
        if any(outcome.state == "returned" for outcome in one.outcomes.values())
        for where, outcome in one.outcomes.items()
        if outcome.state == "failed"
        and _stayed(one, given[where], looks[where])
        and not _is_anothers(one, where, told)
    ]


def never_put(puts: Iterable[Put], told: Iterable[Told]) -> list[str]:
    """Tags that a run calls updated where no registry was ever given them: its report is not true."""
    given: dict[tuple[Where, str], float] = {}
    for put in puts:
        if put.status in {0, 201}:
            key = Where(put.registry, put.repository, put.reference), put.digest
            given[key] = min(given.get(key, put.begun), put.begun)
    return [
        f"not true: batch {one.batch} calls {where} {outcome.state} at {one.digest}, never put there"
        for one in told
        for where, outcome in one.outcomes.items()
        if outcome.state in {"updated", "current"}
        and given.get((where, one.digest), float("inf")) > one.ended
    ]


def _stayed(one: Told, given: list[Put], looks: list[tuple[float, str]]) -> bool:
    """Whether the target took the tag while the batch lasted, and had it no other way by the batch's end."""
    taken = [
        put.begun
        for put in given
        if put.digest == one.digest
        and one.begun <= put.begun <= one.ended
        and (put.status == 201 or (not put.status and _was_seen(one.digest, put.begun, looks)))
    ]
    if not taken:
        return False
    left = [put.begun for put in given if put.digest != one.digest and put.status in {0, 201, 202}]
    left += [at for at, digest in looks if digest != one.digest]
    return not any(taken[-1] < at <= one.ended for at in left)


def _was_seen(digest: str, since: float, looks: list[tuple[float, str]]) -> bool:
    """Whether the observer saw the tag come to the digest: the word on a PUT that got no answer."""
    return any(at >= since and seen == digest for at, seen in looks)


def _is_anothers(one: Told, where: Where, told: Sequence[Told]) -> bool:
    """Whether another batch of that time had the tag, rightly at the same digest or at a newer one."""
    return any(
        other.outcomes[where].state in {"updated", "current", "superseded"}
        for other in told
        if other.batch != one.batch
        and where in other.outcomes
        and (other.digest == one.digest or other.generation > one.generation)
        and other.begun <= one.ended
        and other.ended >= one.begun
    )


Returned = set[tuple[Where, str, str]]
"""Tag, from which digest, to which: what runs say they took back."""


def returned(told: Iterable[Told]) -> Returned:
    """A move that is called failed may have been made, and taken back: its reason says so."""
    return {
        (where, one.digest, outcome.previous)
        for one in told
        for where, outcome in one.outcomes.items()
        if outcome.previous and (outcome.state == "returned" or HAD_MOVED in outcome.reason)
    }


def rolled_back(told: Iterable[Told]) -> set[tuple[Where, str]]:
    """Tags and the digests that rollbacks were to move them to, whatever became of that."""
    return {(where, one.digest) for one in told if one.is_rollback for where in one.outcomes}


def regressions(
    seen: list[dict[str, Any]], world: World, taken_back: Returned, rolled: set[tuple[Where, str]]
) -> tuple[int, list[str]]:
    """How often a tag was seen to go back to an older digest, and those that no run owns up to (G5)."""
    orders = {at: {digest: n for n, digest in enumerate(digests)} for at, digests in world.truth.items()}
    count, faults = 0, []
    for one in seen:
        if one["kind"] != "moved" or not one["was"] or not one["now"] or one["tag"][0] in SIDES:
            continue
        repository, tag = one["tag"]
        order = orders[TagAt(repository, tag)]
        if one["now"] not in order:
            faults.append(
                f"G3: {one['target']} {repository}:{tag} is {one['now']}, which the source never had"
            )
        elif order[one["now"]] < order[one["was"]]:
            count += 1
            where = Where(one["target"], repository, tag)
            if (where, one["was"], one["now"]) not in taken_back and (where, one["now"]) not in rolled:
                faults.append(
                    f"G5: {one['target']} {repository}:{tag} went back from version {order[one['was']]} "
                    f"to {order[one['now']]} at {one['at']:.3f} and no run took it back"
                )
    return count, faults


def piled_up(world: World) -> list[str]:
    """Tags of which a target keeps more former images than it is to, and the one that the tag may be at."""
    reader = Reader()
    found = []
    for name, registry in world.targets.items():
        for spec in world.specs():
            repository = spec.source.partition("/")[2]
            names = filter(is_keeper_tag, reader.tags(Place(registry.host, repository)))
            slots = [(slot, tag) for _, slot, tag in (one.split(".", 2) for one in names) if "-" not in slot]
            kept = Counter(tag for _, tag in slots)
            found += [
                f"{name} {repository}:{tag} has {count} keeper tags, of {spec.keep}"
                for tag, count in kept.items()
                if count > (spec.keep + 1 if spec.keep else 0)
            ]
    reader.close()
    return found


def differing(world: World) -> list[str]:
    """Tags that are not in every target what they are at the source."""
    reader = Reader()
    found = []
    for at, digests in world.truth.items():
        for name, registry in world.targets.items():
            held = reader.tag(Place(registry.host, at.repository), at.tag)
            if held != digests[-1]:
                found.append(f"{name} {at.repository}:{at.tag} is {held} instead of {digests[-1]}")
    reader.close()
    return found


def _leftovers(storm: Storm) -> list[str]:
    """Messages nobody takes: of killed workers they come back after the visibility timeout.

    Probes go on: their messages are there for a moment now and then.
    """
    left = list[str]()

    def none() -> bool:
        storm.fleet.look_after()
        left[:] = leftovers(storm)
        return not left

    eventually(none, LEFTOVERS_S)
    return left


def leftovers(storm: Storm) -> list[str]:
    fleet = storm.fleet
    queues = [f"sealift:{name}{step}" for name in ("control", *fleet.regions) for step in QUEUE_STEPS]
    left = [f"{name}: {count} messages" for name in queues if (count := fleet.client.llen(name))]
    taken = [f"sealift:unacked:{region}" for region in fleet.regions]
    left += [f"{name}: {count} messages" for name in taken if (count := fleet.client.hlen(name))]
    if count := fleet.client.zcard(fleet.ledger.keys.open):
        left.append(f"open: {count} runs and batches")
    return left


def _copied_twice(world: World) -> int:
    """Bytes of blobs that a registry had already taken when they were sent to it."""
    twice = 0
    for proxy in world.proxies.values():
        sizes: dict[str, list[int]] = defaultdict(list)
        for digest, size in proxy.uploads:
            sizes[digest].append(size)
        twice += sum(sum(several[1:]) for several in sizes.values())
    return twice
