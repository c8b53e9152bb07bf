from __future__ import annotations

from collections.abc import Iterator

import pytest

from mirror.plan import BlobWork, cut, missing
from registry.descriptor import OCI_LAYER_GZIP, Descriptor, digest_of


def blob(name: str, size: int) -> Descriptor:
    return Descriptor(OCI_LAYER_GZIP, digest_of(name.encode()), size)


SMALL, BIG, HUGE = blob("small", 10), blob("big", 5000), blob("huge", 90000)


def test_the_biggest_come_first_and_each_blob_once() -> None:
    work = missing([SMALL, HUGE, BIG, HUGE], {"a": set()})

    assert work == [BlobWork(HUGE, ("a",)), BlobWork(BIG, ("a",)), BlobWork(SMALL, ("a",))]


def test_what_a_target_holds_is_not_copied_again() -> None:
    held = {"a": {HUGE.digest, SMALL.digest}, "b": {HUGE.digest}}

    assert missing([SMALL, HUGE, BIG], held) == [BlobWork(BIG, ("a", "b")), BlobWork(SMALL, ("b",))]


def test_small_blobs_are_no_shared_reads() -> None:
    work = missing([SMALL, BIG], {"a": set(), "b": set()}, tee_bytes=1000)

    assert work == [BlobWork(BIG, ("a", "b")), BlobWork(SMALL, ("a",)), BlobWork(SMALL, ("b",))]


def test_equal_sizes_are_ordered_by_digest_whatever_order_they_come_in() -> None:
    blobs = [blob(f"layer {number}", 7) for number in range(20)]

    assert missing(blobs, {"a": set()}) == missing(reversed(blobs), {"a": set()})


def test_without_targets_or_blobs_there_is_nothing_to_do() -> None:
    assert missing([BIG], {}) == []
    assert missing([], {"a": set()}) == []


def test_tags_are_cut_without_reading_ahead() -> None:
    read: list[int] = []

    def tags() -> Iterator[int]:
        for number in range(5):
            read.append(number)
            yield number

    portions = cut(tags(), 2)

    assert next(portions) == (0, 1)
    assert read == [0, 1]
    assert list(portions) == [(2, 3), (4,)]


def test_portions_hold_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(cut([1], 0))
