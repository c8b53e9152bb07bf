"""The fleet together never asks more than a registry allows (G7), counted at the registry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from mirror import budget as budget_module
from mirror.budget import Allowance
from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.retry import Patience
from registry.credentials import CredentialEntry, ExplicitCredentials
from registry.errors import Throttled
from registry.images import LINUX_ARM64, build_image, build_index
from registry.memory import MemoryRegistry, PullLimits
from registry.repository import Repository
from tests.support.budget import ADDRESS, ALL, Opener, hub, image, mirrored, opening, refusing
from tests.support.engine import Drive, engine_on
from tests.support.hammer import hammer
from tests.support.valkey import ValkeyServer
from workers.cli.summary import closing_line


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No margin for a clock that is the same, and no jitter to wait for."""
    monkeypatch.setattr(budget_module, "CLOCK_MARGIN_S", 0.0)
    monkeypatch.setattr(budget_module, "JITTER_SHARE", 0.0)


@pytest.fixture
def opened(valkey: ValkeyServer) -> Iterator[Opener]:
    with opening(valkey) as opener:
        yield opener


# -- pulls are never overdrawn ---------------------------------------------------------------------


def test_many_threads_use_every_pull_and_none_too_many(opened: Opener) -> None:
    with hub(30, 60) as (registry, limits, digests):
        got = hammer(opened(registry.host), digests, threads=16)

    assert (got, limits.used[ADDRESS], limits.refused[ADDRESS]) == (30, 30, 0)


def test_processes_share_what_is_left(valkey: ValkeyServer) -> None:
    with hub(24, 60) as (registry, limits, digests):
        words = [sys.executable, "-m", "tests.support.hammer", valkey.url, registry.host, "3", *digests]
        workers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        got = [int(worker.communicate(timeout=60)[0]) for worker in workers]

    assert limits.refused[ADDRESS] == 0
    assert sum(got) == limits.used[ADDRESS] == 24


def test_somebody_else_on_the_same_address_is_noticed(opened: Opener) -> None:
    with hub(10, 20) as (registry, limits, digests):
        source = opened(registry.host)
        for digest in digests[:3]:
            source.manifest(digest)
        limits.use(ADDRESS, 5)
        got = hammer(source, digests[3:], threads=1)

    assert (got, limits.refused[ADDRESS]) == (2, 0)


def test_the_first_pull_of_all_is_looked_at_before_it_is_made(opened: Opener) -> None:
    with hub(5, 1) as (registry, limits, digests):
        limits.use(ADDRESS, 5)
        source = opened(registry.host)

        with pytest.raises(Throttled, match="no more pulls for now \\(0 of 5 are left in 6 h\\)"):
            source.manifest(digests[0])

        assert (registry.count("manifest", "GET"), registry.count("manifest", "HEAD")) == (0, 1)
        assert source.resolve("0").digest == digests[0], "a HEAD is free"


def test_what_one_process_has_heard_of_who_counts_is_known_to_all(valkey: ValkeyServer) -> None:
    with (
        hub(5, 1) as (counting, _, _),
        MemoryRegistry() as free,
        engine_on(valkey, allowance=ALL) as first,
        engine_on(valkey, allowance=ALL) as second,
    ):
        free.hold("app", image("0"), "0")
        hosts = (counting.host, free.host)
        assert [first.counts_pulls(host) for host in hosts] == [None, None]
        for host in hosts:
            first.open_repository(f"{host}/app").resolve("0")
            counting.forget_requests()
            free.forget_requests()

        assert [second.counts_pulls(host) for host in hosts] == [True, False]
        assert not counting.requests + free.requests


def test_what_one_account_is_told_is_not_forgotten_because_another_is_not(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        budgets = Ledger(client, "test:").budgets
        for counts, known in ((False, False), (True, True), (False, True)):
            budgets.note_counting("hub.example", counts=counts)
            assert budgets.counts("hub.example") is known
        assert 0 < client.ttl("test:ledger:counting:hub.example") <= 31 * 86400


def test_a_window_that_has_ended_lets_pulls_go_again(valkey: ValkeyServer, opened: Opener) -> None:
    with hub(3, 9) as (registry, limits, digests):
        source = opened(registry.host)
        assert hammer(source, digests, threads=2) == 3
        limits.end_window()
        ends_the_window(valkey, registry.host)

        assert hammer(source, digests, threads=2) == 3
        assert limits.refused[ADDRESS] == 0


BOTH = ("alice", "bob")


def test_an_index_costs_a_pull_for_itself_and_one_for_each_platform(valkey: ValkeyServer) -> None:
    arm = build_image({"app.txt": b"arm"}, platform=LINUX_ARM64)
    with (
        hub(10, 0) as (registry, limits, _),
        MemoryRegistry() as target,
        engine_on(valkey, allowance=ALL) as engine,
    ):
        registry.hold("app", build_index([image("amd"), arm]), "1")
        assert Drive(engine, mirrored(registry.host, target.host)).to_end().report.state == "done"

        assert limits.used[ADDRESS] == 3
        assert [one.remaining for one in engine.ledger.budgets.report()] == [7]


@pytest.mark.parametrize(
    ("names", "says", "counted_by"),
    [
        (("alice", "bob"), True, {"alice", "bob"}),
        (("alice", "bob"), False, {"alice", "bob"}),
        ((), False, {""}),
    ],
)
def test_pulls_are_counted_by_what_the_registry_names_else_by_account_else_by_host(
    valkey: ValkeyServer,
    names: tuple[str, ...],
    says: bool,  # noqa: FBT001 -- a parameter of the test
    counted_by: set[str],
) -> None:
    class Mute(PullLimits):
        def _headers(self, source: str) -> dict[str, str]:
            found = super()._headers(source)
            return found if says else {k: v for k, v in found.items() if k != "Docker-RateLimit-Source"}

    account = {"username": "alice", "password": "secret", "others": {"bob": "secret"}} if names else {}
    with ExitStack() as stack:
        registry = stack.enter_context(MemoryRegistry(pulls=Mute(6), **account))  # type: ignore[arg-type]  # a test's own words
        digests = [registry.hold("app", image(str(n)), str(n)).digest for n in range(8)]
        entries = {name: CredentialEntry(name, "secret") for name in names}
        shared = {registry.host: {n: ExplicitCredentials({registry.host: e}) for n, e in entries.items()}}
        engine = stack.enter_context(
            engine_on(valkey, allowance=ALL, accounts={host: a for host, a in shared.items() if a})
        )
        hammer(engine.open_repository(f"{registry.host}/app"), digests[:4], threads=1)

        assert {one.source for one in engine.ledger.budgets.report()} == counted_by


def test_junk_in_the_headers_is_no_limit(valkey: ValkeyServer, opened: Opener) -> None:
    class Junk(PullLimits):
        def _headers(self, source: str) -> dict[str, str]:
            return {"RateLimit-Limit": "a;b", "RateLimit-Remaining": "0", "Docker-RateLimit-Source": source}

    with MemoryRegistry(pulls=Junk(100)) as registry, valkey.client() as client:
        digest = registry.hold("app", image("one"), "1").digest
        assert opened(registry.host).manifest(digest).digest == digest
        assert Ledger(client, "test:").budgets.report() == []


def test_two_accounts_share_the_load(valkey: ValkeyServer) -> None:
    accounts = {name: CredentialEntry(name, "secret") for name in ("alice", "bob")}
    with ExitStack() as stack:
        registry, limits, digests = stack.enter_context(
            hub(5, 12, username="alice", password="secret", others={"bob": "secret"})
        )
        shared = {registry.host: {n: ExplicitCredentials({registry.host: e}) for n, e in accounts.items()}}
        engine = stack.enter_context(engine_on(valkey, allowance=ALL, accounts=shared))
        source = engine.open_repository(f"{registry.host}/app")
        assert hammer(source, digests[:4], threads=1) == 4
        assert limits.used == {"alice": 2, "bob": 2}, "each pull goes where most is left"
        assert hammer(source, digests[4:], threads=3) == 6

    assert limits.used == {"alice": 5, "bob": 5}
    assert not limits.refused


def test_an_account_that_is_paused_leaves_the_work_to_the_other(valkey: ValkeyServer) -> None:
    entries = {name: CredentialEntry(name, "secret") for name in ("alice", "bob")}
    with ExitStack() as stack:
        registry, limits, digests = stack.enter_context(
            hub(50, 4, username="alice", password="secret", others={"bob": "secret"})
        )
        shared = {registry.host: {n: ExplicitCredentials({registry.host: e}) for n, e in entries.items()}}
        engine = stack.enter_context(engine_on(valkey, allowance=ALL, accounts=shared))
        engine.ledger.budgets.pause(registry.host, "alice", 7200)
        source = engine.open_repository(f"{registry.host}/app")

        assert source.resolve("0").digest == digests[0]
        assert hammer(source, digests, threads=1) == 4
        engine.ledger.budgets.pause(registry.host, "bob", 600)
        with pytest.raises(Throttled) as caught:
            hammer_all(source, digests)

    assert limits.used == {"bob": 4}
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s <= 600, "whoever is free first says when"


def hammer_all(source: Repository, digests: list[str]) -> None:
    for digest in digests:
        source.manifest(digest)


# -- who may use what is left ------------------------------------------------------------------------


def test_backfill_leaves_the_reserve_to_the_release_lane(valkey: ValkeyServer) -> None:
    with (
        hub(10, 8) as (registry, limits, _),
        MemoryRegistry() as target,
        engine_on(valkey, allowance=Allowance(reserve=0.5)) as engine,
    ):
        backfill = Drive(engine, mirrored(registry.host, target.host), lane="backfill").all()
        assert limits.used[ADDRESS] == 5
        assert "kept for the release lane" in backfill.report.waits
        assert len(target.tags("app")) == 5

        release = Drive(engine, mirrored(registry.host, target.host, include=("5", "6", "7"))).to_end()
        assert limits.refused[ADDRESS] == 0
    assert release.report.state == "done"


# -- a run that must wait -----------------------------------------------------------------------------


def test_a_run_without_pulls_waits_in_the_ledger_and_reads_each_manifest_once(valkey: ValkeyServer) -> None:
    with (
        hub(4, 7) as (registry, limits, digests),
        MemoryRegistry() as target,
        engine_on(valkey, allowance=ALL) as engine,
    ):
        run = Drive(engine, mirrored(registry.host, target.host)).all()
        assert (len(target.tags("app")), limits.refused[ADDRESS]) == (4, 0)
        assert run.report.state == "open"
        assert run.report.waits_until_s is not None
        assert run.report.waits_until_s > engine.ledger.now() + 60
        line = closing_line(run.report)
        assert "Waiting until " in line
        assert "UTC, because " in line
        assert "no more pulls for now (0 of 4 are left in 6 h)" in line

        limits.end_window()
        ends_the_window(valkey, registry.host)
        make_due(run)
        assert run.to_end().report.states == {"updated": 7}
        gets = [one.path for one in registry.requests if (one.kind, one.method) == ("manifest", "GET")]
    assert len(gets) == len(set(gets)) == len(digests)


def test_two_hours_of_retry_after_are_honoured_by_every_process_while_other_hosts_go_on(
    valkey: ValkeyServer,
) -> None:
    with ExitStack() as stack:
        source, other, target, free = (stack.enter_context(MemoryRegistry()) for _ in range(4))
        for registry in (source, other):
            registry.hold("app", image("one"), "1")
        source.on_request = refusing("GET", "/manifests/", "7200")
        with engine_on(valkey, allowance=ALL) as engine:
            run = Drive(engine, mirrored(source.host, target.host)).all()
            assert run.tags["1"].state == "waiting"
            assert run.report.waits_until_s == pytest.approx(engine.ledger.now() + 7200, abs=30)
            assert Drive(engine, mirrored(other.host, free.host)).to_end().report.state == "done"

        source.on_request = None
        asked = len(source.requests)
        with engine_on(valkey, allowance=ALL) as engine:
            resumed = adopted(engine, run)
            make_due(resumed)
            resumed.land()
            resumed.finalize()
            assert len(source.requests) == asked, "a new process leaves it alone too"
            assert resumed.report.waits_until_s == pytest.approx(engine.ledger.now() + 7200, abs=30)

            ends_the_pause(valkey, source.host)
            make_due(resumed)
        with engine_on(valkey, allowance=ALL) as engine:
            assert adopted(engine, run).to_end().report.state == "done"


def test_a_listing_that_is_refused_for_hours_parks_its_run_and_sleeps_in_no_slot(
    valkey: ValkeyServer,
) -> None:
    slept: list[float] = []
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as target,
        engine_on(valkey, allowance=ALL) as engine,
    ):
        source.hold("app", image("one"), "1")
        source.on_request = refusing("GET", "/tags/list", "7200")
        patient = replace(engine, patience=Patience(5, 60.0, wait=slept.append))
        run = Drive(patient, mirrored(source.host, target.host))

        assert run.report.waits_until_s == pytest.approx(engine.ledger.now() + 7200, abs=30)
        assert slept == []
        assert engine.ledger.take_due(60) == []


def test_ranking_by_date_goes_on_where_its_pulls_ended(valkey: ValkeyServer) -> None:
    with (
        hub(4, 6) as (registry, limits, digests),
        MemoryRegistry() as target,
        engine_on(valkey, allowance=ALL) as engine,
    ):
        spec = mirrored(registry.host, target.host, newest=2, newest_by="created")
        run = Drive(engine, spec)
        assert (run.report.listed, limits.used[ADDRESS], limits.refused[ADDRESS]) == (False, 4, 0)
        limits.end_window()
        ends_the_window(valkey, registry.host)

        again = Drive(engine, spec)
        gets = [one.path for one in registry.requests if (one.kind, one.method) == ("manifest", "GET")]
    assert again.report.listed
    assert len(gets) == len(set(gets)) == len(digests)


def test_a_batch_may_wait_any_number_of_times(valkey: ValkeyServer) -> None:
    with MemoryRegistry() as source, MemoryRegistry() as target, engine_on(valkey, allowance=ALL) as engine:
        source.hold("app", image("one"), "1")
        source.on_request = refusing("HEAD", "/manifests/", "7200")
        run = Drive(engine, mirrored(source.host, target.host))
        batch = run.batches[0]
        for _ in range(3):
            engine.ledger.batches.swept(batch)
            run.resolve()

        assert engine.ledger.batches.swept(batch) == 1, "waiting is not standing still"


# -- moving time ----------------------------------------------------------------------------------------


def ends_the_window(valkey: ValkeyServer, host: str) -> None:
    """As if the window had run out a moment ago."""
    with valkey.client() as client:
        client.hset(Ledger(client, "test:").keys.pulls(host, ADDRESS), "until", "1")


def ends_the_pause(valkey: ValkeyServer, host: str) -> None:
    with valkey.client() as client:
        assert client.delete(Ledger(client, "test:").keys.pause(host, "")) == 1


def make_due(run: Drive) -> None:
    """As if everything that waits had waited long enough."""
    ledger = run.engine.ledger
    for batch in run.batches:
        waiting = {p: replace(o, at=0.0) for p, o in ledger.batches.outcomes(batch).items()}
        ledger.batches.record(
            batch, {p: o for p, o in waiting.items() if o.state in {"waiting", "ready"}}, ("waiting", "ready")
        )


def adopted(engine: Engine, run: Drive) -> Drive:
    """The same run in the hands of another process."""
    other = object.__new__(Drive)
    other.__dict__.update(run.__dict__, engine=engine)
    return other


def test_a_manifest_that_is_read_again_stays_in_the_cache(valkey: ValkeyServer) -> None:
    """A batch that needs more pulls than one window has must not lose the first while it waits."""
    manifest = image("one").manifest
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        ledger.content.keep_manifest(manifest)
        key = ledger.keys.manifest(manifest.digest)
        client.expire(key, 60)

        assert Ledger(client, "test:").content.manifest(manifest.digest) == manifest
        assert client.ttl(key) > 3600
