"""Deletions: what the source has no more goes where we put it, and nothing else, guard by guard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import pytest

from mirror import prune as pruning
from mirror.engine import Engine
from mirror.ledger import Ledger, LedgerError
from mirror.ledger.batches import Resolved
from mirror.ledger.gone import Gone
from mirror.listing import enumerate_tags
from mirror.prune import foreseen, prune
from mirror.report import Deletion
from mirror.rollback import rollback_of
from mirror.spec import MirrorSpec, Target
from registry import deletion
from registry.deletion import _CONFIG, tombstone
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry
from registry.memory_api import Reply
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

DAY_S = 86400


@dataclass
class World:
    """A source, and a target in each of two regions."""

    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry
    after_s: int = 0
    share: int = 100

    @property
    def spec(self) -> MirrorSpec:
        return MirrorSpec(
            "app",
            f"{self.source.host}/app",
            (Target(f"{self.us.host}/app", "us"), Target(f"{self.eu.host}/app", "eu")),
            delete="mirror",
            delete_share=self.share,
            delete_after_s=self.after_s,
        )

    def hold(self, *tags: str) -> None:
        for tag in tags:
            self.source.hold("app", image(tag), tag)

    def lose(self, *tags: str) -> None:
        """As somebody deletes tags at the source."""
        for tag in tags:
            self.source._store.remove_manifest("app", tag)

    def sync(self, spec: MirrorSpec | None = None) -> Drive:
        run = Drive(self.engine, spec or self.spec).all()
        for region in self.engine.ledger.gone.regions_to_do(run.run, run.spec.regions):
            prune(self.engine, run.run, region)
        return run

    def deletions(self, run: Drive) -> dict[str, list[Deletion]]:
        """By tag, in the order of the targets."""
        found: dict[str, list[Deletion]] = {}
        for target in self.spec.targets:
            for one in self.engine.ledger.gone.deletions(run.run):
                if one.target == target.repository:
                    found.setdefault(one.tag, []).append(one)
        return found

    def states(self, run: Drive) -> dict[str, list[str]]:
        return {tag: [one.state for one in found] for tag, found in self.deletions(run).items()}

    def gone_since(self, *tags: str) -> None:
        """Have tags copied, lose them, and have a run see that they are gone."""
        self.hold("kept", *tags)
        self.sync()
        self.lose(*tags)
        self.sync()


def image(text: str) -> Image:
    return build_image({"app.txt": text.encode()})


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry(deletes="digests") as eu,
        engine_on(valkey) as engine,
    ):
        yield World(engine, source, us, eu)


def test_what_the_source_has_no_more_is_deleted_by_the_run_after_the_one_that_saw_it(world: World) -> None:
    world.hold("1", "2")
    world.sync()
    world.lose("2")

    first = world.sync()
    assert world.states(first) == {"2": ["waiting", "waiting"]}
    assert "2" in world.us.tags("app")
    second = world.sync()

    assert world.states(second) == {"2": ["deleted", "deleted"]}
    assert set(world.us.tags("app")) == set(world.eu.tags("app")) == {"1"}
    assert second.report.state == "done"
    assert second.report.deletions == {"deleted": 2}
    assert world.states(world.sync()) == {}, "it is done with"


def test_the_deletion_is_in_the_tags_history(world: World) -> None:
    world.gone_since("2")
    run = world.sync()

    flips = world.engine.ledger.history.of("app", ["2"])["2"]
    targets = [target.repository for target in world.spec.targets]
    assert [(one.run, one.to) for one in flips] == [(run.run, ""), (flips[-1].run, DIGEST)]
    assert flips[0].previous == dict.fromkeys(targets, DIGEST), "one line, however many places it went from"
    assert flips[0].source == world.spec.source


def test_a_deletion_beside_a_line_of_one_place_has_a_line_of_its_own(
    world: World, valkey: ValkeyServer
) -> None:
    world.hold("1")
    run, ledger = world.sync().run, world.engine.ledger
    targets = [target.repository for target in world.spec.targets]
    with valkey.client() as client:
        key = ledger.keys.history("app")
        for target in targets:
            ledger.gone.record(run, Deletion("2", target, "us", DIGEST, "deleted"), world.spec)
            if target == targets[0]:
                held = cast("bytes", client.hget(key, "2"))
                at, _, row = held.decode().partition(" ")
                name, to, (digest,), (place,) = json.loads(row)
                client.hset(key, "2", f"{at} {json.dumps([name, to, digest, place])}")

    flips = ledger.history.of("app", ["2"])["2"]
    assert [(one.run, one.previous) for one in flips] == [(run, {name: DIGEST}) for name in reversed(targets)]
    assert len(ledger.gone.deletions(run)) == 2


def test_deletions_push_no_move_out_of_the_history(world: World, valkey: ValkeyServer) -> None:
    world.engine = replace(world.engine, ledger=Ledger(valkey.client(), "test:", flips_kept=3))
    world.gone_since("2")
    first = world.sync()
    world.hold("2")
    again = world.sync()
    world.lose("2")
    world.sync()
    second = world.sync()

    runs = [one.run for one in world.engine.ledger.history.of("app", ["2"])["2"]]
    assert runs == [second.run, again.run, first.run]
    assert world.states(world.sync()) == {}, "it counts as ours no more"


DIGEST = image("2").digest


def test_nothing_is_deleted_where_nobody_asked_for_it(world: World) -> None:
    world.gone_since("2")
    run = world.sync(replace(world.spec, delete="never"))

    assert world.states(run) == {}
    assert "2" in world.us.tags("app")


def test_a_tag_is_given_its_grace(world: World) -> None:
    world.after_s = DAY_S
    world.gone_since("2")
    run = world.sync()

    (us, _) = world.deletions(run)["2"]
    assert us.state == "waiting"
    assert us.due_s == us.since_s + DAY_S
    assert run.report.state == "done"

    world.after_s = 0
    assert world.states(world.sync()) == {"2": ["deleted", "deleted"]}


def test_a_tag_that_came_back_begins_its_grace_anew(world: World) -> None:
    world.gone_since("2")
    world.hold("2")
    assert world.states(world.sync()) == {}
    world.lose("2")

    assert world.states(world.sync()) == {"2": ["waiting", "waiting"]}


def test_what_somebody_else_put_there_is_theirs(world: World) -> None:
    world.us.hold("app", image("theirs"), "theirs")
    world.us.hold("app", image("2"), "2")
    world.hold("1", "2", "3")
    world.sync()
    world.us.hold("app", image("moved"), "3")
    world.lose("2", "3")
    world.sync()
    run = world.sync()

    assert set(world.us.tags("app")) == {"1", "2", "3", "theirs"}
    assert set(world.eu.tags("app")) == {"1"}
    assert world.states(run) == {"2": ["deleted"], "3": ["kept", "deleted"]}, "2 was in us before us"
    assert "somebody else has moved it" in world.deletions(run)["3"][0].reason


def test_a_tag_that_is_no_longer_selected_is_not_gone(world: World) -> None:
    world.gone_since()
    world.hold("2")
    world.sync()
    run = world.sync(replace(world.spec, exclude=("2",)))

    assert world.states(run) == world.states(world.sync(replace(world.spec, exclude=("2",)))) == {}
    assert "2" in world.us.tags("app")


@pytest.mark.parametrize("newest", [None, 1])
def test_no_more_than_a_share_goes_in_one_run(world: World, newest: int | None) -> None:
    world.hold(*(f"1.{number}.0" for number in range(10)))
    world.sync()
    world.lose("1.0.0", "1.1.0", "1.2.0")
    world.share = 20
    spec = replace(world.spec, newest=newest)
    world.sync(spec)
    run = world.sync(spec)

    assert world.states(run) == {f"1.{number}.0": ["kept", "kept"] for number in range(3)}
    assert "3 of 10 tags that we put there are gone" in world.deletions(run)["1.0.0"][0].reason
    assert len(world.us.tags("app")) == 10
    world.share = 30
    assert world.sync().report.deletions == {"deleted": 6}


def test_what_other_guards_keep_is_no_part_of_the_share(world: World) -> None:
    tags = [f"1.{number}" for number in range(10)]
    world.hold(*tags)
    world.sync()
    world.lose("1.0", "1.1", "1.2", "1.3", "1.4")
    world.sync()
    world.engine.ledger.pins.put("app", "a-rollback", {"1.0": image("1.0").digest})
    for registry in (world.us, world.eu):
        registry.hold("app", image("theirs"), "1.1")
        registry._store.remove_manifest("app", "1.2")
    world.share = 25  # of eight that are ours and there, two go
    plan = world.engine.ledger.beginnings.plan(world.spec, "release")
    enumerate_tags(world.engine, plan, 32, lambda: None)
    pinned = [one for one in foreseen(world.engine, world.engine.ledger, plan) if one.tag == "1.0"]
    assert all(one.reason.startswith("pinned") for one in pinned), pinned

    run = world.sync()

    assert world.states(run) == {
        "1.0": ["kept", "kept"],
        "1.1": ["kept", "kept"],
        "1.2": ["absent", "absent"],
        "1.3": ["deleted", "deleted"],
        "1.4": ["deleted", "deleted"],
    }


def test_of_very_many_no_more_are_asked_about_than_it_takes(world: World) -> None:
    world.hold(*(f"1.{number:02}" for number in range(20)))
    world.sync()
    world.lose(*(f"1.{number:02}" for number in range(10)))
    world.share = 10
    world.sync()
    world.us.forget_requests()

    run = world.sync()

    assert set(map(tuple, world.states(run).values())) == {("kept", "kept")}
    reason = world.deletions(run)["1.00"][0].reason
    assert reason.startswith("10 of 20 tags that we put there are gone from the source")
    asked = [one for one in world.us.requests if one.method == "HEAD" and "/manifests/1.0" in one.path]
    assert len(asked) == 3, "the third is one too many"


def test_one_tag_may_go_whatever_the_share(world: World) -> None:
    world.share = 1
    world.gone_since("2")

    assert world.states(world.sync()) == {"2": ["deleted", "deleted"]}


def test_an_empty_list_is_not_believed(world: World) -> None:
    world.gone_since("2")
    world.lose("kept")
    run = world.sync()

    assert world.states(run) == {}
    assert set(world.us.tags("app")) == {"kept", "2"}


def test_nothing_is_deleted_where_the_source_was_not_listed(world: World) -> None:
    world.gone_since("2")
    run = world.sync(replace(world.spec, refs=(("kept", "kept"),)))

    assert world.states(run) == {}
    assert "2" in world.us.tags("app")


def test_nothing_is_deleted_by_a_run_in_which_a_tag_failed(world: World) -> None:
    world.gone_since("2")
    world.hold("broken")
    del world.source.blobs[image("broken").layers[0].descriptor.digest]
    run = world.sync()

    assert run.report.states == {"current": 1, "failed": 1}
    assert world.states(run) == {}
    assert "2" in world.us.tags("app")


def test_a_list_that_lost_its_beginning_deletes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.gone_since("2")
    with monkeypatch.context() as patched:
        patched.setattr(Gone, "begin", lambda *_: None)
        run = world.sync()
    assert set(world.engine.ledger.gone.first_seen("app")) == {"2"}, "nor does it end a grace"

    assert world.states(run) == {}
    assert "2" in world.us.tags("app")


def test_a_list_that_is_read_page_by_page_and_gone_on_with_is_one_list(world: World) -> None:
    with MemoryRegistry(page_size=1) as source:
        world.source = source
        world.hold("1", "2", "3", "4")
        world.sync()
        world.lose("3")
        ledger = world.engine.ledger
        run = ledger.create_run(world.spec, "release")
        for _ in range(5):  # each reads one page and stops; each but the first begins behind the last tag
            enumerate_tags(world.engine, run, 1, lambda: None, most_waiting=1)
            ledger.open_window(run, 1000)

        assert ledger.run_report(run).listed
        assert set(ledger.gone.first_seen("app")) == {"3"}
        left = ledger.keys.left(run, "app")
        assert ledger._redis.scard(left) == 2, "what was seen is not kept"
        assert 0 < ledger._redis.ttl(left) <= DAY_S
        again = ledger.gone.listing(run, world.spec, from_the_start=True)
        again.saw(["1"])
        again.over()
        assert set(ledger.gone.first_seen("app")) == {"3"}, "who begins late forgets nothing that was seen"


def test_a_plan_says_what_would_go_and_begins_no_grace(world: World) -> None:
    world.hold("1", "2")
    world.sync()
    world.lose("2")
    ledger = world.engine.ledger
    plan = ledger.beginnings.plan(world.spec, "release")
    enumerate_tags(world.engine, plan, 32, lambda: None)

    assert [(one.tag, one.state) for one in foreseen(world.engine, ledger, plan)] == [("2", "waiting")] * 2
    assert ledger.gone.first_seen("app") == {}
    world.sync()
    plan = ledger.beginnings.plan(world.spec, "release")
    enumerate_tags(world.engine, plan, 32, lambda: None)
    assert [one.state for one in foreseen(world.engine, ledger, plan)] == ["deleting"] * 2


def test_a_tag_that_the_source_has_but_does_not_list_stays(world: World) -> None:
    world.hold("1", "2")
    world.sync()

    listed = world.source._api._tags
    world.source._api._endpoints["tags", "GET"] = lambda request: Reply.of_json(
        {"tags": [tag for tag in json.loads(cast("bytes", listed(request).body))["tags"] if tag != "2"]}
    )
    world.sync()
    run = world.sync()

    assert world.states(run) == {"2": ["kept", "kept"]}
    assert "does not list it" in world.deletions(run)["2"][0].reason


def test_a_tag_that_a_newer_run_has_claimed_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.gone_since("2")
    target, ledger = world.spec.targets[0].repository, world.engine.ledger
    took = pruning.Pruning.of

    def claim_first(*args: object) -> pruning.Pruning:
        generation = ledger.begin_question([], [])[0]
        newer = Resolved("2", "2", image("2").manifest.descriptor, generation=generation, at=ledger.now())
        assert ledger.turns.claim(target, newer) == "ours"
        return took(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pruning.Pruning, "of", claim_first)
    run = world.sync()

    assert world.states(run) == {"2": ["kept", "deleted"]}
    assert "newer run" in world.deletions(run)["2"][0].reason


@pytest.mark.parametrize("when", ["before", "tombstone", "after"])
def test_a_deletion_that_was_cut_short_is_finished_and_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    world.gone_since("2")
    target = world.spec.targets[1].repository

    def killed(repository: object, tag: str) -> None:
        if when == "tombstone":
            world.eu.plant("app", tag, tombstone(target, tag))
        if when == "after":
            world.eu._store.remove_manifest("app", tag)
        raise LedgerError("killed")

    run = Drive(world.engine, world.spec).all()
    with monkeypatch.context() as patched:
        patched.setattr(deletion, "delete_tag", killed)
        with pytest.raises(LedgerError):
            prune(world.engine, run.run, "eu")
    for region in ("eu", "us", "eu"):
        prune(world.engine, run.run, region)

    assert world.states(run) == {"2": ["deleted", "deleted"]}
    assert run.report.deletions == {"deleted": 2}
    gone = world.engine.ledger.gone
    for one in gone.deletions(run.run):
        gone.record(run.run, one, world.spec)
        gone.record(run.run, replace(one, state="kept"), world.spec)
    assert run.report.deletions == {"deleted": 2}, "each word may come twice, and late"
    assert len(world.engine.ledger.history.of("app", ["2"])["2"]) == 2
    assert set(world.eu.tags("app")) == {"kept"}


def test_a_registry_that_cannot_delete_is_named_and_asked_once(world: World) -> None:
    with MemoryRegistry(deletes=False) as us:
        world.us = us
        world.gone_since("2", "3")
        us.forget_requests()
        run = world.sync()

        assert world.states(run) == {"2": ["failed", "deleted"], "3": ["failed", "deleted"]}
        for tag in ("2", "3"):
            failed = world.deletions(run)[tag][0]
            assert (failed.kind, us.host in failed.reason) == ("CannotDelete", True)
        assert run.report.state == "failed"
        assert len([one for one in us.requests if one.method == "DELETE"]) == 2, "the tag, and the probe"


def test_an_immutable_tag_is_kept_and_nothing_has_failed(world: World) -> None:
    def immutable(method: str, path: str) -> None:
        if method == "DELETE":
            raise ErrorReply(412, "PRECONDITION", "'app:2' configured as immutable")

    world.gone_since("2")
    world.us.on_request = immutable
    run = world.sync()

    assert world.states(run) == {"2": ["kept", "deleted"]}
    assert run.report.state == "done"


def test_a_tag_that_is_still_there_after_its_deletion_is_not_called_deleted(world: World) -> None:
    world.gone_since("2")
    store = world.us._store
    removed = store.remove_manifest
    store.remove_manifest = lambda *_: None  # type: ignore[method-assign]
    run = world.sync()
    store.remove_manifest = removed  # type: ignore[method-assign]

    assert world.states(run) == {"2": ["failed", "deleted"]}
    assert "still there" in world.deletions(run)["2"][0].reason
    assert world.states(world.sync()) == {"2": ["deleted"]}, "the next run tries it again"


def test_a_tag_that_is_gone_already_is_noted_and_not_looked_for_again(world: World) -> None:
    world.gone_since("2")
    world.us._store.remove_manifest("app", "2")

    assert world.states(world.sync()) == {"2": ["absent", "deleted"]}
    assert world.states(world.sync()) == {}


def test_a_paused_or_cancelled_run_deletes_nothing(world: World) -> None:
    world.hold("2", "3", "kept")
    world.sync()
    world.lose("2")
    world.sync()
    world.lose("3")
    run, ledger = Drive(world.engine, world.spec).all(), world.engine.ledger
    ledger.pause_run(run.run, paused=True)
    prune(world.engine, run.run, "us")
    assert "2" in world.us.tags("app")
    ledger.pause_run(run.run, paused=False)
    prune(world.engine, run.run, "us")
    assert "2" not in world.us.tags("app")
    ledger.cancel_run(run.run)
    prune(world.engine, run.run, "eu")

    assert "2" in world.eu.tags("app")
    assert world.states(run) == {"2": ["deleted"], "3": ["waiting"]}, (
        "a late copy of the message adds nothing"
    )


def test_each_repository_of_a_wildcard_has_its_own(world: World) -> None:
    spec = replace(
        world.spec,
        source=f"{world.source.host}/team/*",
        targets=(Target(f"{world.us.host}/copy/*", "us"),),
    )
    for name in ("a", "b"):
        for tag in ("1", "2"):
            world.source.hold(f"team/{name}", image(name + tag), tag)
    world.sync(spec)
    world.source._store.remove_manifest("team/a", "2")
    world.sync(spec)
    run = world.sync(spec)

    assert [one.target for one in world.engine.ledger.gone.deletions(run.run)] == [f"{world.us.host}/copy/a"]
    assert set(world.us.tags("copy/a")) == {"1"}
    assert set(world.us.tags("copy/b")) == {"1", "2"}


def test_a_tag_that_is_pinned_stays(world: World) -> None:
    world.gone_since("1.0")
    world.engine.ledger.pins.put("app", "a-rollback", {"1.0": image("1.0").digest})

    run = world.sync()

    assert world.states(run) == {"1.0": ["kept", "kept"]}
    assert "pinned" in world.deletions(run)["1.0"][0].reason
    assert world.us.tag("app", "1.0")


def test_what_a_person_brought_from_elsewhere_under_the_same_name_stays(world: World) -> None:
    world.gone_since("1.0")
    with MemoryRegistry() as elsewhere:
        elsewhere.hold("app", image("theirs"), "hotfix")
        theirs = replace(world.spec, source=f"{elsewhere.host}/app", refs=(("hotfix", "hotfix"),))
        Drive(world.engine, theirs).all()
    world.sync()
    run = world.sync()

    assert "hotfix" not in world.states(run)
    assert world.us.tag("app", "hotfix") == image("theirs").digest


def test_a_rollback_makes_nobodys_tag_ours(world: World) -> None:
    world.hold("kept")
    world.us.hold("app", image("theirs"), "2")
    world.eu.hold("app", image("theirs"), "2")
    with MemoryRegistry() as elsewhere:
        elsewhere.hold("app", image("new"), "2")
        Drive(world.engine, replace(world.spec, source=f"{elsewhere.host}/app", refs=(("2", "2"),))).all()
    Drive(world.engine, rollback_of(world.spec, {"2": image("theirs").digest}, pin=False)).all()
    runs = [world.sync() for _ in range(3)]

    assert [world.states(run) for run in runs] == [{}, {}, {}]
    assert world.us.tag("app", "2") == image("theirs").digest


def test_a_tag_of_ours_that_was_rolled_back_is_still_ours(world: World) -> None:
    world.hold("kept", "2")
    world.sync()
    world.source.hold("app", image("newer"), "2")
    world.sync()
    Drive(world.engine, rollback_of(world.spec, {"2": image("2").digest}, pin=False)).all()
    world.lose("2")
    world.sync()

    assert world.states(world.sync()) == {"2": ["deleted", "deleted"]}


def test_what_was_seen_before_deletion_was_switched_off_counts_no_more(world: World) -> None:
    world.after_s = 2 * DAY_S
    world.gone_since("1.0")
    world.sync(replace(world.spec, delete="never"))

    assert world.engine.ledger.gone.first_seen("app") == {}


def test_a_source_at_a_tombstone_has_no_such_tag(world: World) -> None:
    world.hold("kept")
    marker = tombstone(f"{world.source.host}/app", "1.0")
    world.source.hold_blob("app", _CONFIG)
    world.source.plant("app", "1.0", marker)

    run = Drive(world.engine, world.spec).all()

    assert run.tags["1.0"].targets[0].kind == "NotFound"
    assert world.us.tag("app", "1.0") is None
