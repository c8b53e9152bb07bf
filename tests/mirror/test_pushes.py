"""Pushes that somebody tells of: one run looks for all that came before it, and one more waits at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mirror.ledger import Ledger, pushes
from mirror.ledger.batches import Resolved
from mirror.ledger.conflicts import agreement
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from tests.support.valkey import ValkeyServer

SPEC = MirrorSpec("app", "src.example/app", (Target("eu.example/app"),), refs=(("v1", "v1"),))
A, B = "a.example/app", "b.example/app"
PAIR = MirrorSpec("pair", "=", (Target(A), Target(B)), refs=(("v1", "v1"),), kind="two_way", two_way=True)
AT = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)


@pytest.fixture
def ledger(valkey: ValkeyServer) -> Iterator[Ledger]:
    with valkey.client() as client:
        yield Ledger(client)


def begin_to_look(ledger: Ledger, run: str) -> None:
    assert ledger.add_batches(run, "", "", [[("v1", "v1")]], listed=True)


def test_a_run_that_has_not_begun_to_look_will_see_what_is_pushed_meanwhile(ledger: Ledger) -> None:
    first = ledger.pushes.ask(SPEC)
    assert first.how == "begins"
    assert {ledger.pushes.ask(SPEC) for _ in range(5)} == {pushes.Asked("waits", first.run)}
    assert ledger.lane(first.run) == "release"


def test_behind_a_run_that_has_begun_exactly_one_more_waits(ledger: Ledger) -> None:
    first = ledger.pushes.ask(SPEC).run
    begin_to_look(ledger, first)
    behind = ledger.pushes.ask(SPEC)
    assert behind.how == "behind"
    assert {ledger.pushes.ask(SPEC) for _ in range(5)} == {pushes.Asked("waits", behind.run)}
    assert not ledger.pushes.look(behind.run)
    assert ledger.pushes.follower(first) is None

    ledger.cancel_run(first)
    assert ledger.pushes.follower(first) == behind.run
    assert ledger.pushes.ask(SPEC) == pushes.Asked("waits", behind.run)
    assert ledger.pushes.look(behind.run)
    begin_to_look(ledger, behind.run)
    third = ledger.pushes.ask(SPEC)
    assert third.how == "behind"
    assert not ledger.pushes.look(third.run)
    assert len(list(ledger.runs())) == 3


def test_what_is_pushed_while_a_long_list_is_read_is_looked_at_again(ledger: Ledger) -> None:
    first = ledger.pushes.ask(SPEC).run
    assert ledger.pushes.look(first)
    assert ledger.pushes.ask(SPEC).how == "behind", "nothing is listed yet, but the list may be on its way"
    assert ledger.add_batches(first, "", "v1", [[("v1", "v1")]], listed=False)

    assert ledger.pushes.ask(SPEC).how == "waits", "behind it"


def test_after_a_run_has_ended_the_next_push_begins_one(ledger: Ledger) -> None:
    ledger.cancel_run(ledger.pushes.ask(SPEC).run)
    assert ledger.pushes.ask(SPEC).how == "begins"


def test_tags_and_terms_do_not_wait_for_each_other(ledger: Ledger) -> None:
    others = (replace(SPEC, refs=(("v2", "v2"),)), replace(SPEC, name="other"), replace(SPEC, keep=3))
    assert {ledger.pushes.ask(spec).how for spec in (SPEC, *others)} == {"begins"}


def own_flip(ledger: Ledger, side: str = B, agreed: str = AT.digest) -> None:
    assert ledger.turns.claim(side, Resolved("v1", "v1", AT, generation=1, at=1.0), sure=True) == "ours"
    ledger._redis.hset(ledger.keys.agreed("pair"), "v1", agreement(PAIR, agreed))


def test_what_we_put_at_a_side_and_all_agree_on_is_no_push(ledger: Ledger) -> None:
    own_flip(ledger)
    assert ledger.pushes.ask(PAIR, "v1", B, AT.digest) == pushes.Asked("ours")
    assert list(ledger.runs()) == []


def test_anything_less_is_looked_at(ledger: Ledger) -> None:
    """Another digest, another side, a digest that nobody tells, or one that we did not put there last."""
    own_flip(ledger)
    for words in (("v1", B, digest_of(b"other")), ("v1", A, AT.digest), ("v1", B, "")):
        asked = ledger.pushes.ask(PAIR, *words)
        assert asked.how == "begins"
        ledger.cancel_run(asked.run)
    own_flip(ledger)
    other = Resolved("v1", "v1", replace(AT, digest=digest_of(b"other")), generation=2, at=2.0)
    assert ledger.turns.claim(B, other, sure=True) == "ours"
    asked = ledger.pushes.ask(PAIR, "v1", B, AT.digest)
    assert asked.how == "begins"
    ledger.cancel_run(asked.run)


def test_what_is_not_agreed_on_any_more_is_looked_at(ledger: Ledger) -> None:
    own_flip(ledger, agreed=digest_of(b"newer"))
    assert ledger.pushes.ask(PAIR, "v1", B, AT.digest).how == "begins"


def test_while_a_run_of_the_tag_is_open_our_own_digest_may_be_somebody_elses_push_too(ledger: Ledger) -> None:
    """It may have looked at a side before that was taken back to what we had put there."""
    first = ledger.pushes.ask(PAIR, "v1", A, digest_of(b"pushed")).run
    begin_to_look(ledger, first)
    own_flip(ledger)
    assert ledger.pushes.ask(PAIR, "v1", B, AT.digest).how == "behind"


def test_deliveries_are_remembered_only_so_many_and_so_long(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "MOST_DELIVERED", 3)
    for one in "abcde":
        ledger.pushes.remember("hub", [one])
    assert ledger.pushes.delivered("hub", list("abcdef")) == {"c", "d", "e"}
    assert ledger.pushes.delivered("other", ["e"]) == set()
    assert ledger.pushes.delivered("hub", []) == set()
    assert 0 < ledger._redis.ttl(ledger.keys.delivered("hub")) <= pushes.DELIVERED_S


def test_what_is_kept_of_a_tag_goes_by_itself(ledger: Ledger) -> None:
    ledger.pushes.ask(SPEC)
    (key,) = ledger._redis.keys(f"{ledger.keys.pushed('')}*")
    assert 0 < ledger._redis.ttl(key) <= pushes.KEEP_S
