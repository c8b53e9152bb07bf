"""What Flower is told of how a batch ended."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mirror.ledger.batches import Outcome, Resolved, View
from registry.descriptor import OCI_MANIFEST, Descriptor
from tasks import told

DESCRIPTOR = Descriptor(OCI_MANIFEST, f"sha256:{'a' * 64}", 1)
US, EU = "us.example/app", "eu.example/app"


def ended(outcomes: Mapping[tuple[str, str], Outcome], *missing: Resolved) -> View:
    known = [Resolved(tag, tag, DESCRIPTOR) for tag in dict.fromkeys(tag for tag, _ in outcomes)]
    return View("concluded", "", frozenset(), [*known, *missing], dict(outcomes), {}, False, False, 0.0)  # noqa: FBT003 - as it comes


def test_what_went_well_is_counted() -> None:
    view = ended(
        {("1", US): Outcome("updated"), ("1", EU): Outcome("current"), ("2", US): Outcome("updated")}
    )

    assert told.ending(view) == "2 updated, 1 current"


@pytest.mark.parametrize("reason", ["eu.example/app:1: tag is immutable", "tag is immutable"])
def test_what_failed_is_named_once_with_its_reason_and_before_what_follows_from_it(reason: str) -> None:
    view = ended({
        ("1", US): Outcome("returned", "went back because the move failed elsewhere"),
        ("1", EU): Outcome("failed", reason),
    })  # fmt: skip

    assert told.ending(view) == "failed: eu.example/app:1: tag is immutable (1 returned, 1 failed)"


def test_a_tag_that_the_source_has_not_is_named_too() -> None:
    view = ended({("1", US): Outcome("updated")}, Resolved("9", "9", None, "src.example/app:9: not found"))

    assert told.ending(view) == "failed: src.example/app:9: not found (1 updated, 1 failed)"


def test_no_secret_and_no_novel_is_told() -> None:
    reason = f"GET https://ci:hunter2@src.example/v2/?token=hunter2 {'x' * 2000}"

    text = told.ending(ended({("1", US): Outcome("failed", reason)}))

    assert "hunter2" not in text
    assert len(text) == told.MOST
