"""Pushes that a two-way mirror loses, and tags that it leaves apart in silence: planted, and found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.ledger import Ledger
from mirror.ledger.conflicts import Conflict
from mirror.spec import MirrorSpec
from registry.deletion import tombstone
from registry.images import Image, build_image
from tests.chaos.judge import early_flips
from tests.chaos.judge_sides import (
    Record,
    TagOf,
    Verdict,
    apart,
    inconsistent,
    judge_sides,
    lost_pushes,
    without_tombstones,
)
from tests.chaos.proxy import Look, Put
from tests.chaos.sides import BOTH, PREFERRED, Side, Sides
from tests.chaos.world import REGIONS
from tests.support.registries import DockerRegistry
from tests.support.valkey import ValkeyServer

NAME, TAG = f"{BOTH}app-0", "2.0"
SIDES = tuple(REGIONS)
OLD, PUSHED, OTHER = (build_image({"version": version}).digest for version in (b"1", b"2", b"3"))
EVERYWHERE = dict.fromkeys(SIDES, OLD)
APART: dict[str, str | None] = {**EVERYWHERE, "north": PUSHED, "south": OTHER}
OPEN = Conflict(TAG, "conflict", APART, OLD, 1.0, "run.0")


def put(digest: str, begun: float, registry: str = "north", status: int = 201) -> Put:
    return Put(registry, NAME, TAG, digest, begun, begun + 0.1, status)


def look(done: float, registry: str = "north") -> Look:
    return Look(registry, NAME, TAG, done - 0.01, done)


PUSH, ELSEWHERE = put(PUSHED, 10.0), put(OTHER, 9.0, "south")


def judged(
    puts: Iterable[Put], looks: Iterable[Look] = (), record: Record | None = None, *more: Put
) -> Verdict:
    records = {(NAME, TAG): record} if record else {}
    return lost_pushes([ELSEWHERE, PUSH, *more], list(puts), list(looks), records)


def test_a_push_that_is_overwritten_by_what_was_decided_before_it_is_found() -> None:
    (violation,) = judged([put(OTHER, 12.0)], [look(9.5)]).violations

    assert violation.startswith(f"lost: north {NAME}:{TAG} was pushed to {PUSHED}")
    assert "2.500 s after the last look" in violation


def test_so_is_one_that_was_looked_at_and_overwritten_all_the_same() -> None:
    assert judged([put(OTHER, 12.0)], [look(11.0)]).violations
    assert judged([put(OTHER, 12.0)], [look(11.9)]).violations
    assert judged([put(OTHER, 10.2)], [look(10.0)]).met == 1, "it came in that very moment"


@pytest.mark.parametrize(
    ("puts", "record"),
    [
        pytest.param([], None, id="still there"),
        pytest.param([put(OTHER, 12.0), put(PUSHED, 13.0)], None, id="taken back"),
        pytest.param([put(OTHER, 12.0, status=500)], None, id="refused"),
        pytest.param([put(OTHER, 9.0)], None, id="put before"),
        pytest.param(
            [put(PUSHED, 11.0, "south"), put(PUSHED, 11.0, "island"), put(OTHER, 12.0)],
            Record(settled=(replace(OPEN, sides={**EVERYWHERE, "south": OTHER}),)),
            id="all had it",
        ),
        pytest.param([put(OTHER, 12.0)], Record(settled=(OPEN,)), id="decided, and on record"),
        pytest.param(
            [put(OTHER, 12.0)],
            Record(moved_from=frozenset({("north", PUSHED)}), is_left_out=True),
            id="in the history, as there were too many conflicts",
        ),
    ],
)
def test_nothing_is_lost_where_it_is_there_or_on_record(puts: list[Put], record: Record | None) -> None:
    assert judged(puts, record=record).violations == []


def test_what_only_the_history_has_is_lost_where_every_conflict_is_remembered() -> None:
    assert judged([put(OTHER, 12.0)], record=Record(moved_from=frozenset({("north", PUSHED)}))).violations
    assert judged([put(OTHER, 12.0)], record=Record(settled=(replace(OPEN, sides=EVERYWHERE),))).violations


def test_a_push_that_somebody_replaced_at_that_side_is_his() -> None:
    later = put(OLD, 11.0)

    assert judged([], (), None, later).violations == []
    assert judged([put(OTHER, 10.5)], (), None, later).violations, "but not if the mirror had done so before"


def test_where_a_rule_decides_it_has_to_say_so_too_whatever_is_pushed_there_later() -> None:
    """The run that decided may be cut short: what it has replaced by then is lost all the same."""
    (preferred,) = PREFERRED
    own, *_ = pushes = [
        one._replace(repository=preferred) for one in (PUSH, put(OTHER, 9.0, "island"), put(OLD, 14.0))
    ]
    replaced = own._replace(digest=OTHER, begun=12.0, done=12.1)
    record = {(preferred, TAG): Record(settled=(replace(OPEN, rule="prefer", took=OTHER),))}

    (lost,) = lost_pushes(pushes, [replaced], [], {}).violations

    assert lost.startswith(f"lost: north {preferred}:{TAG} was pushed to {PUSHED}")
    assert lost_pushes(pushes, [replaced], [], record).violations == []


def test_what_nobody_pushed_is_found_at_a_side() -> None:
    (violation,) = judged([put(OLD, 8.0)]).violations

    assert violation == f"G3: north {NAME}:{TAG} was put to {OLD}, which nobody pushed"


def test_a_tag_that_is_moved_only_to_be_deleted_is_gone() -> None:
    sides = Sides(_places(), 3, seed=1, image=_image)
    marker = tombstone(sides.seen_as("north", NAME), TAG).digest

    gone, kept = without_tombstones(sides, [put(marker, 12.0), put(marker, 12.0, "south")])

    assert (gone.digest, kept.digest) == ("", marker)
    assert judged([gone], [look(11.0)]).violations[0].startswith("lost: ")


@pytest.mark.parametrize(
    ("held", "record", "found"),
    [
        pytest.param(EVERYWHERE, Record(), "", id="equal"),
        pytest.param(APART, Record(open=OPEN), "", id="apart, on record"),
        pytest.param(APART, Record(), "no conflict is open", id="apart in silence"),
        pytest.param({**APART, "island": None}, Record(open=OPEN), "on record as", id="on record as another"),
        pytest.param(EVERYWHERE, Record(open=OPEN), "a conflict is open", id="equal, and held"),
    ],
)
def test_sides_are_equal_or_on_record(held: Mapping[str, str | None], record: Record, found: str) -> None:
    violations = apart((NAME, TAG), held, record)

    assert len(violations) == bool(found)
    assert found in "".join(violations)


def test_the_base_is_what_all_have_or_once_had() -> None:
    place: TagOf = (NAME, TAG)
    had: dict[TagOf, dict[str, set[str]]] = {place: {OLD: set(SIDES), PUSHED: {"north"}}}

    assert inconsistent(place, EVERYWHERE, Record(OLD), had) == []
    assert inconsistent(place, EVERYWHERE, Record(PUSHED), had)
    assert inconsistent(place, EVERYWHERE, Record(), had)
    assert inconsistent(place, APART, Record(OLD, open=OPEN), had) == []
    assert inconsistent(place, APART, Record(PUSHED, open=OPEN), had)
    assert inconsistent(place, APART, Record(open=OPEN), had) == []


def test_a_side_that_somebody_pushed_at_holds_what_it_was_given() -> None:
    moved = [put(PUSHED, 12.0, "south"), Put("island", NAME, PUSHED, PUSHED, 11.0, 11.1, 201)]

    assert early_flips(moved, pushes=[PUSH]) == []
    assert early_flips(moved)


def test_what_is_taken_back_to_what_was_pushed_there_is_no_early_move() -> None:
    back = put(PUSHED, 13.0)

    assert early_flips([back], pushes=[PUSH]) == []
    assert early_flips([back._replace(registry="south")], pushes=[PUSH]), "but nothing was pushed there"
    assert early_flips([back._replace(reference="2.1")], pushes=[PUSH])


def test_what_is_pushed_and_what_is_on_record_are_told_by_registries_and_ledger(tmp_path: Path) -> None:
    with DockerRegistry(tmp_path) as registry, ValkeyServer(tmp_path) as valkey:
        # All three are one registry here: what is pushed at one side is at once at all.
        sides = Sides(_places(registry.host), 3, seed=1, image=_image)
        while len(sides.pushes) < 12:
            sides.push_any()
        with valkey.client() as client:
            verdict = judge_sides(sides, Ledger(client), [], [])

    assert len({one.digest for one in sides.pushes}) == len(sides.pushes)
    tags = {(one.repository, one.reference) for one in sides.pushes}
    assert len(verdict.violations) == len(tags), verdict.violations
    assert all(one.startswith(f"base: {BOTH}") and one.endswith("not None") for one in verdict.violations)


def test_a_decision_is_about_tags_that_are_apart_and_takes_one_side() -> None:
    sides = Sides(_places(), 3, seed=1, image=_image)
    spec: MirrorSpec = sides.specs()[0]

    decided = sides.decision(spec, ["2.1", "2.0"])

    assert decided.take in {target.repository for target in spec.targets}
    assert decided.refs == (("2.0", "2.0"), ("2.1", "2.1"))


def _places(host: str = "127.0.0.1:1") -> dict[str, Side]:
    return {name: Side(host, f"127.0.0.1:{at}", "east") for at, name in enumerate(SIDES, 1)}


def _image(text: str) -> Image:
    return build_image({"motd": text.encode()})
