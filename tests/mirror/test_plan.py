from __future__ import annotations

from collections.abc import Iterator

import pytest

from mirror.plan import BlobWork, blob_work, cut, split_hauls
from registry.descriptor import OCI_LAYER_GZIP, Descriptor, digest_of


def blob(name: str, size: int) -> Descriptor:
    return Descriptor(OCI_LAYER_GZIP, digest_of(name.encode()), size)


SMALL, BIG, HUGE = blob("small", 10), blob("big", 5000), blob("huge", 90000)


def test_each_blob_is_carried_once_to_all_who_want_it_the_biggest_first() -> None:
    work = blob_work([(SMALL, ["a"]), (HUGE, ["a"]), (BIG, ["b"]), (HUGE, ["b", "a"])])

    assert work == [BlobWork(HUGE, ("a", "b")), BlobWork(BIG, ("b",)), BlobWork(SMALL, ("a",))]
    assert work[0].size == 2 * HUGE.size


def test_equal_sizes_are_ordered_by_digest_whatever_order_they_come_in() -> None:
    wanted = [(blob(f"layer {number}", 7), ["a"]) for number in range(20)]

    assert blob_work(wanted) == blob_work(reversed(wanted))


def test_what_is_too_large_for_one_task_travels_on_its_own() -> None:
    work = blob_work([(one, ["a"]) for one in (SMALL, BIG, HUGE)])

    own, far = split_hauls(work, BIG.size)
    assert [one.blob for one in own] == [BIG, SMALL]
    assert [one.blob for one in far] == [HUGE]


def test_a_task_keeps_one_blob_however_large_they_all_are() -> None:
    own, far = split_hauls(blob_work([(HUGE, ["a"]), (BIG, ["a"])]), 1)

    assert ([one.blob for one in own], [one.blob for one in far]) == ([HUGE], [BIG])


def test_without_blobs_there_is_nothing_to_do() -> None:
    assert blob_work([]) == []
    assert split_hauls([], 1) == ([], [])


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
