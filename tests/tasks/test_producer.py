"""What is asked for again, and what of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from mirror.ledger import Ledger
from mirror.ledger.batches import Outcome, Resolved
from mirror.ledger.sources import Entry
from mirror.ledger.verified import DAMAGED, MISSING
from mirror.spec import MirrorSpec, Target, Verification
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from tasks import canvas, producer
from tests.support.valkey import ValkeyServer

TARGET = "us.example/app"
SPEC = MirrorSpec("app", "src.example/app", (Target(TARGET, "us"),))
AT = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)


@pytest.fixture
def ledger(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Its messages go nowhere."""
    monkeypatch.setattr(canvas, "send_enumerate", lambda *_: None)
    with valkey.client() as client:
        yield Ledger(client, "test:")


def ended(ledger: Ledger, spec: MirrorSpec = SPEC, **outcomes: Outcome) -> str:
    """A run whose tags ended so."""
    run = ledger.create_run(spec, "backfill")
    ledger.add_batches(run, "", "", [[(tag, tag) for tag in outcomes]], listed=True)
    (batch,) = ledger.open_window(run, 1)
    ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT) for tag in outcomes])
    ledger.batches.record(batch, {(tag, TARGET): one for tag, one in outcomes.items()})
    assert ledger.batches.conclude(batch, "resolving", spec)
    return run


def again(ledger: Ledger, run: str, *, failed_only: bool) -> set[str]:
    rt: Any = SimpleNamespace(ledger=ledger)
    new = producer.retry(rt, run, failed_only=failed_only)
    assert ledger.lane(new) == "backfill"
    return {tag for tag, _ in ledger.spec(new).refs}


def test_what_failed_is_tried_again_alone_where_only_that_is_wanted(ledger: Ledger) -> None:
    run = ended(ledger, a=Outcome("updated"), b=Outcome("failed", "no"), c=Outcome("cancelled"))

    assert again(ledger, run, failed_only=True) == {"b"}
    assert again(ledger, run, failed_only=False) == {"b", "c"}


def test_what_is_left_alone_on_purpose_is_not_tried_again(ledger: Ledger) -> None:
    run = ended(ledger, a=Outcome("held", "moved apart", "Held"), b=Outcome("failed", "no"))
    only_held = ended(ledger, a=Outcome("held", "moved apart", "Held"))

    assert again(ledger, run, failed_only=False) == {"b"}
    assert ledger.run_report(only_held).state == "done"
    with pytest.raises(producer.NothingFailed):
        again(ledger, only_held, failed_only=False)


def test_a_run_that_was_only_cancelled_has_nothing_that_failed(ledger: Ledger) -> None:
    run = ended(ledger, c=Outcome("cancelled"))

    with pytest.raises(producer.NothingFailed):
        again(ledger, run, failed_only=True)


def test_of_a_list_that_could_not_be_read_nothing_failed_by_name(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "backfill")
    ledger.fail_run(run, "src.example/app: no such repository", "NotFound")

    with pytest.raises(producer.NothingFailed):
        again(ledger, run, failed_only=True)
    assert again(ledger, run, failed_only=False) == set()


LOOKS = replace(SPEC, kind="verify", verification=Verification(deep=True))


def test_what_was_found_wrong_is_repaired_by_one_run_however_often_that_is_asked(ledger: Ledger) -> None:
    gone, away = Outcome("failed", "x is gone", DAMAGED), Outcome("failed", "no answer", "Unreachable")
    run = ended(ledger, LOOKS, a=Outcome("current"), b=gone, c=away)
    rt: Any = SimpleNamespace(ledger=ledger)

    repair = producer.repair(rt, run)

    assert ledger.spec(repair) == replace(LOOKS, kind="repair", refs=(("b", "b"),))
    assert producer.repair(rt, run) == repair
    assert ledger.spec(producer.verify_again(rt, repair)) == replace(LOOKS, refs=(("b", "b"),))


def test_where_nothing_is_wrong_nothing_is_repaired(ledger: Ledger) -> None:
    run = ended(ledger, LOOKS, a=Outcome("current"))
    rt: Any = SimpleNamespace(ledger=ledger)

    with pytest.raises(producer.NothingFailed):
        producer.repair(rt, run)


def test_of_many_repositories_each_ones_wrong_tags_are_repaired(ledger: Ledger) -> None:
    spec = MirrorSpec("all", "src.example/*", (Target("us.example/*", "us"),), kind="verify")
    run = ledger.create_run(spec, "backfill")
    words = {"repository": "src.example/app", "is_through": True, "repositories": ["src.example/app"]}
    ledger.add_batches(run, "", "", [[("a", "a"), ("b", "b")]], listed=True, **words)  # type: ignore[arg-type]
    (batch,) = ledger.open_window(run, 1)
    ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT) for tag in "ab"])
    ledger.batches.record(batch, {("a", TARGET): Outcome("failed", "is missing", MISSING)})
    ledger.batches.conclude(batch, "resolving", ledger.spec_of(batch))
    rt: Any = SimpleNamespace(ledger=ledger)

    repair = producer.repair(rt, run)

    assert list(ledger.sources.left(repair)) == [Entry("src.example/app", (("a", "a"),))]
    assert ledger.spec(repair).kind == "repair"
    (found,) = ledger.run_report(run).found
    assert (found.repository, found.missing) == ("us.example/*", 1)
