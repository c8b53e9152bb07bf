"""Failures are counted by what their reasons have in common, and never without bound (issue 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from mirror.ledger import Ledger, failures
from mirror.ledger.batches import Outcome, Resolved
from mirror.report import FailureReport
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from tests.support.valkey import ValkeyServer

US, EU = "us.example/app", "eu.example/app"
SPEC = MirrorSpec("app", "src.example/app", (Target(US, "us"), Target(EU, "eu")))
AT = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)
UPDATED = Outcome("updated")


@pytest.fixture
def ledger(valkey: ValkeyServer) -> Iterator[Ledger]:
    with valkey.client() as client:
        yield Ledger(client, "test:")


def ended(ledger: Ledger, *batches: Mapping[str, tuple[Outcome, Outcome]]) -> tuple[FailureReport, ...]:
    """Why a run failed whose tags ended so, in ``us`` and ``eu``, batch by batch."""
    run = ledger.create_run(SPEC, "release")
    ledger.add_batches(run, "", "", [[(tag, tag) for tag in batch] for batch in batches], listed=True)
    ledger.open_window(run, len(batches))
    for number, batch in enumerate(batches):
        name = f"{run}.{number}"
        ledger.batches.set_resolved(name, [Resolved(tag, tag, AT) for tag in batch])
        outcomes = {
            (tag, place): one
            for tag, both in batch.items()
            for place, one in zip((US, EU), both, strict=True)
        }
        ledger.batches.record(name, outcomes)
        assert ledger.batches.conclude(name, "resolving", SPEC)
    return ledger.run_report(run).failures


def failed(tag: str, reason: str = "denied (403 DENIED)", kind: str = "Denied") -> Outcome:
    return Outcome("failed", f"{EU}:{tag}: {reason}", kind)


def held(tag: str) -> Outcome:
    return Outcome("failed", f"not moved, because of {EU}:{tag}: denied (403 DENIED)", "Denied")


def test_tags_that_failed_for_the_same_reason_are_counted_together_across_batches(ledger: Ledger) -> None:
    batches = [{f"1.{n}.{m}": (held(f"1.{n}.{m}"), failed(f"1.{n}.{m}")) for m in range(4)} for n in range(3)]

    (found,) = ended(ledger, *batches, {"2.0": (UPDATED, UPDATED)})

    assert (found.reason, found.count) == ("eu.example/app:…: denied (403 DENIED)", 12)
    assert found.kinds == ("Denied",)
    assert len(found.examples) == failures.MOST_EXAMPLES
    assert set(found.examples) <= {tag for batch in batches for tag in batch}


def test_the_most_frequent_reason_comes_first_and_digests_make_none_of_their_own(ledger: Ledger) -> None:
    lost = {
        f"3.{n}": (UPDATED, failed(f"3.{n}", f"lacks {digest_of(bytes([n]))}", "NotFound")) for n in range(3)
    }

    found = ended(ledger, {"1.0": (UPDATED, failed("1.0"))}, lost)

    assert [(one.count, one.kinds) for one in found] == [(3, ("NotFound",)), (1, ("Denied",))]
    assert found[0].reason == "eu.example/app:…: lacks sha256:…"


def test_a_tag_that_is_part_of_another_word_is_left_there(ledger: Ledger) -> None:
    (found,) = ended(ledger, {"1": (UPDATED, failed("1", "no connection to 10.0.0.1:15000"))})

    assert found.reason == "eu.example/app:…: no connection to 10.0.0.1:15000"


def test_reasons_beyond_the_most_are_counted_as_one(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.ledger.batches.MOST_REASONS", 2)
    batches = [{f"1.{n}": (UPDATED, failed(f"1.{n}", f"reason {n}"))} for n in range(6)]

    found = ended(ledger, *batches)

    assert [(one.reason, one.count) for one in found] == [
        ("other reasons", 4),
        ("eu.example/app:…: reason 0", 1),
        ("eu.example/app:…: reason 1", 1),
    ]
    assert found[0].examples == ("1.2", "1.3", "1.4", "1.5")


def test_a_reason_without_end_is_cut(ledger: Ledger) -> None:
    (found,) = ended(ledger, {"1.0": (UPDATED, failed("1.0", "no " * 10_000))})

    assert len(found.reason) == failures.LONGEST
