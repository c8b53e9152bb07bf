"""The judge sees what only several witnesses together can tell: planted records, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.ledger import Ledger
from mirror.ledger.batches import Outcome, OutcomeState, Resolved
from mirror.spec import MirrorSpec, Target
from registry.deletion import tombstone
from registry.descriptor import OCI_MANIFEST, Descriptor
from registry.images import build_image
from tests.chaos.figures import KINDS, QUEUE_STEPS, kind_of
from tests.chaos.judge import early_flips, left_behind, never_put, no_rest, returned, rolled_back, unowned
from tests.chaos.proxy import Put
from tests.chaos.told import Told, Where, tell
from tests.chaos.world import REGIONS, written
from tests.support.valkey import ValkeyServer

NAME, TAG = "team/app", "1"
OLD, NEW, NEWER = (build_image({"version": version}).digest for version in (b"1", b"2", b"3"))
BEHIND = Where("island", NAME, TAG)
"""The target in which the move is called failed."""


def told(state: OutcomeState, batch: str = "a.0", digest: str = NEW, begun: float = 10.0) -> Told:
    """A batch of ten seconds whose tag ended so in ``BEHIND``, and elsewhere as it has to with that."""
    elsewhere: OutcomeState = "returned" if state == "failed" else state
    outcomes = {Where(name, NAME, TAG): Outcome(elsewhere, previous=OLD) for name in REGIONS}
    outcomes[BEHIND] = Outcome(state, previous=OLD)
    return Told(batch, digest, int(begun), begun, begun + 10.0, outcomes)


def put(digest: str, begun: float, status: int = 201) -> Put:
    return Put(*BEHIND, digest, begun, begun + 0.1, status)


def seen(digest: str | None, at: float) -> dict[str, Any]:
    return {"kind": "moved", "target": "island", "tag": [NAME, TAG], "was": None, "now": digest, "at": at}


FAILED, TAKEN = told("failed"), put(NEW, 12.0)
NEWER_RUN = told("updated", "b.0", NEWER, 15.0)


def test_a_tag_that_stayed_where_its_move_is_called_failed_while_the_others_went_back_is_found() -> None:
    (violation,) = left_behind([TAKEN], [FAILED], [])

    assert violation.startswith(f"G2 left behind: island {NAME}:{TAG} stayed at {NEW}")


def test_so_is_one_whose_put_got_no_answer_if_the_observer_saw_it_there() -> None:
    unanswered = put(NEW, 12.0, status=0)

    assert left_behind([unanswered], [FAILED], [seen(NEW, 13.0)])
    assert left_behind([unanswered], [FAILED], [seen(OLD, 9.0)]) == []


def test_so_is_one_that_was_put_again_after_it_was_taken_back() -> None:
    assert left_behind([TAKEN, put(OLD, 13.0), put(NEW, 14.0)], [FAILED], [])


def test_so_is_one_that_moved_on_only_after_the_batch_had_ended() -> None:
    later = replace(NEWER_RUN, begun=25.0, ended=30.0)

    assert left_behind([TAKEN, put(NEWER, 26.0)], [FAILED, later], [seen(NEWER, 26.1)])
    assert left_behind([TAKEN], [FAILED, replace(told("current", "b.0", begun=25.0))], [])


@pytest.mark.parametrize(
    ("puts", "batches", "looks"),
    [
        pytest.param([TAKEN, put(OLD, 14.0)], [FAILED], [], id="taken back there too"),
        pytest.param([TAKEN, put("", 14.0, 202)], [FAILED], [], id="new, and removed there too"),
        pytest.param([TAKEN], [FAILED], [seen(NEW, 12.5), seen(OLD, 14.0)], id="seen to leave in time"),
        pytest.param([TAKEN, put(NEWER, 22.0)], [FAILED, NEWER_RUN], [], id="moved on by a newer run"),
        pytest.param([TAKEN], [FAILED, told("current", "b.0", begun=15.0)], [], id="another run's too"),
        pytest.param([put(NEW, 12.0, 500)], [FAILED], [], id="refused"),
        pytest.param([], [FAILED], [], id="never put"),
        pytest.param([put(NEW, 26.0)], [FAILED], [], id="put by a later run"),
        pytest.param([TAKEN], [told("updated")], [], id="moved everywhere"),
        pytest.param([put(NEW[:-1], 12.0)], [FAILED], [], id="put at another digest"),
    ],
)
def test_nothing_is_left_behind_where_it_was(
    puts: Sequence[Put], batches: Sequence[Told], looks: Sequence[dict[str, Any]]
) -> None:
    assert left_behind(puts, batches, looks) == []


def test_a_tag_that_is_called_updated_and_was_never_put_is_found() -> None:
    one = replace(told("updated"), outcomes={BEHIND: Outcome("updated")})

    assert never_put([put(OLD, 12.0), put(NEW, 25.0), put(NEW, 12.0, 500)], [one]) == [
        f"not true: batch a.0 calls island {NAME}:{TAG} updated at {NEW}, never put there"
    ]
    assert never_put([TAKEN], [one]) == []
    assert never_put([put(NEW, 12.0, status=0)], [one]) == [], "its answer may have been lost"
    assert never_put([], [replace(one, outcomes={BEHIND: Outcome("failed")})]) == []


def test_what_became_of_a_tag_is_read_from_the_ledger(tmp_path: Path) -> None:
    host = "127.0.0.1:20001"
    spec = MirrorSpec("app", "127.0.0.1:20000/team/app", (Target(f"{host}/{NAME}", "west"),))
    with ValkeyServer(tmp_path) as valkey, valkey.client() as client:
        ledger = Ledger(client)
        run = ledger.create_run(spec, "release")
        ledger.add_batches(run, "", "", [[(TAG, TAG)]], listed=True)
        (batch,) = ledger.open_window(run, 1)
        resolved = Resolved(TAG, TAG, Descriptor(OCI_MANIFEST, NEW, 1), generation=3, at=12.0)
        ledger.batches.set_resolved(batch, [resolved])
        ledger.batches.record(batch, {(TAG, f"{host}/{NAME}"): Outcome("returned", previous=OLD)})
        (open_still,) = tell(ledger, client, {host: "island"})
        assert ledger.batches.conclude(batch, "resolving", spec)
        (ended,) = tell(ledger, client, {host: "island"})

    assert (ended.batch, ended.digest, ended.generation, ended.begun) == (batch, NEW, 3, 12.0)
    assert open_still.ended == float("inf")
    assert ended.ended < float("inf")
    assert returned([ended]) == {(BEHIND, NEW, OLD)}


@pytest.mark.parametrize(
    ("more", "blobs", "found"),
    [
        pytest.param([], [OLD], "", id="nothing"),
        pytest.param([put(NEW, 30.0)], [OLD], f"island {NAME}:{TAG} {NEW}", id="a tag, to what it was"),
        pytest.param([put("", 30.0, 202)], [OLD], f"island {NAME}:{TAG} ", id="deleted"),
        pytest.param([], [OLD, OLD], f"island {OLD}", id="a blob, once more"),
    ],
)
def test_what_is_written_when_nothing_is_left_to_do_is_found(
    more: list[Put], blobs: list[str], found: str
) -> None:
    before, after = written([TAKEN], {"island": [OLD]}), written([TAKEN, *more], {"island": blobs})

    assert no_rest(before, after) == ([f"no rest: {found} was written at the end"] if found else [])


def test_a_move_that_is_called_failed_and_went_back_is_owned_up_to() -> None:
    outcome = Outcome("failed", f"not there; it had moved and went back to {OLD}", previous=OLD)
    one = Told("run.0", NEW, 1, 0.0, 1.0, {BEHIND: outcome})

    assert returned([one]) == {(BEHIND, NEW, OLD)}


def test_where_a_rollback_goes_is_owned_up_to_whatever_became_of_it() -> None:
    outcome = Outcome("failed", "no answer", previous=NEW)
    rollback = Told("run.0", OLD, 1, 0.0, 1.0, {BEHIND: outcome}, is_rollback=True)

    assert rolled_back([rollback, replace(rollback, digest=NEW, is_rollback=False)]) == {(BEHIND, OLD)}


def test_a_tag_that_vanished_is_excused_only_where_a_run_says_that_it_removed_it() -> None:
    gone = {"rule": "vanished", "tag": [NAME, TAG], "target": "island", "faults": ["gone"]}
    owned = Told("run.0", NEW, 1, 0.0, 1.0, {BEHIND: Outcome("returned", "was removed again because …")})

    assert unowned([gone], [owned]) == []
    assert unowned([{**gone, "target": "north"}], [owned])
    assert unowned([{**gone, "rule": "G1"}], [owned])
    assert unowned([gone], [FAILED])


def test_a_tag_that_is_moved_only_to_be_deleted_moved_no_earlier_than_others() -> None:
    marker = tombstone(f"127.0.0.1:1/{NAME}", TAG).digest

    assert early_flips([put(marker, 12.0)], {"island": "127.0.0.1:1"}) == []
    assert early_flips([put(marker, 12.0)], {"island": "127.0.0.1:2"})
    assert early_flips([TAKEN], {"island": "127.0.0.1:1"})


def test_every_list_of_a_queue_is_of_a_known_kind() -> None:
    kinds = {kind_of(f"sealift:{queue}{step}") for queue in ("control", "east") for step in QUEUE_STEPS}

    assert kinds == {"queues"}
    assert kind_of("sealift:east:4") is None
    assert "queues" in KINDS
