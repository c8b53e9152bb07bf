"""What the fleet remembers of where blobs are is bounded by number and by age (issue 5)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mirror.ledger import Ledger
from mirror.ledger import content as content_module
from mirror.ledger.accounts import RegionBatch
from mirror.ledger.batches import Placing
from mirror.ledger.content import Content, Done, Memory
from mirror.spec import MirrorSpec, Target
from registry.descriptor import digest_of
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

MOST = 20
HOST, REPOSITORY = "eu.example", "team/app"


@pytest.fixture
def ledger(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setattr(content_module, "MOST_KNOWN", MOST)
    with valkey.client() as client:
        yield Ledger(client, "test:")


def blob(number: int) -> str:
    return digest_of(str(number).encode())


def places(ledger: Ledger) -> int:
    """The keys that say where a blob is."""
    patterns = (ledger.keys.present("*", "*", "*"), ledger.keys.holder("*", "*"))
    return sum(len(ledger._redis.keys(pattern)) for pattern in patterns)


def bring(content: Content, digest: str, memory: Memory) -> None:
    """As a worker does that uploads it."""
    held = content.hold(digest, [(HOST, HOST, REPOSITORY)])
    assert not isinstance(held, str)
    held[0].became = "uploaded"
    content.let_go(held, memory)


@pytest.mark.parametrize("how", ["seen", "brought"])
def test_no_more_blobs_are_remembered_than_the_most_and_the_last_ones_are(ledger: Ledger, how: str) -> None:
    content, memory = ledger.content, Memory()
    for number in range(5 * MOST):
        if how == "brought":
            bring(content, blob(number), memory)
        else:
            content.saw(HOST, REPOSITORY, blob(number), memory)
        assert places(ledger) <= MOST

    assert ledger._redis.zcard(ledger.keys.known) == places(ledger) == MOST
    assert content.sight(HOST, "other", blob(5 * MOST - 1)).holder == REPOSITORY
    assert content.sight(HOST, "other", blob(0)).holder is None


def test_what_would_be_forgotten_first_goes_first(ledger: Ledger) -> None:
    for number in range(MOST):
        ledger.content.saw(HOST, REPOSITORY, blob(number), Memory(present_s=300, mount_s=86400))

    assert all(ledger.content.sight(HOST, "other", blob(n)).holder == REPOSITORY for n in range(MOST - 1))


def test_nothing_is_remembered_for_longer_than_it_is_believed(ledger: Ledger) -> None:
    content = ledger.content
    for number in range(MOST // 4):
        content.saw(HOST, REPOSITORY, blob(number), Memory(present_s=1, mount_s=1))
    content.saw(HOST, REPOSITORY, blob(99), Memory(present_s=600, mount_s=600))
    until(lambda: places(ledger) == 2, 5, "the others to be forgotten")

    for _ in range(MOST // 4):
        content.saw(HOST, REPOSITORY, blob(99), Memory(present_s=600, mount_s=600))

    assert ledger._redis.zcard(ledger.keys.known) == 2
    assert 0 < ledger._redis.ttl(ledger.keys.known) <= 600


def test_a_lease_is_given_up_also_where_what_was_done_cannot_be_written(ledger: Ledger) -> None:
    run = ledger.create_run(
        MirrorSpec("app", "src.example/app", (Target(f"{HOST}/{REPOSITORY}", "eu"),)), "release"
    )
    ledger.add_batches(run, "", "", [[("1.0", "1.0")]], listed=True)
    (batch,) = ledger.open_window(run, 1)
    ledger._redis.set(ledger.keys.placed(batch, "eu"), "no hash")
    held = ledger.content.hold(blob(1), [(HOST, HOST, REPOSITORY)])
    assert not isinstance(held, str)
    held[0].became, held[0].done = "uploaded", Done(f"{HOST}/{REPOSITORY}", Placing("copied"), 5)

    ledger.content.let_go(held, Memory(), RegionBatch(batch, "eu"))

    assert not ledger.content.leases.is_held(HOST, blob(1))
