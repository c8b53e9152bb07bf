"""What is asked for again, and what of it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mirror.ledger import Ledger
from mirror.ledger.batches import Outcome, Resolved
from mirror.spec import MirrorSpec, Target
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


def ended(ledger: Ledger, **outcomes: Outcome) -> str:
    """A run whose tags ended so."""
    run = ledger.create_run(SPEC, "backfill")
    ledger.add_batches(run, "", "", [[(tag, tag) for tag in outcomes]], listed=True)
    (batch,) = ledger.open_window(run, 1)
    ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT) for tag in outcomes])
    ledger.batches.record(batch, {(tag, TARGET): one for tag, one in outcomes.items()})
    assert ledger.batches.conclude(batch, "resolving", SPEC)
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
