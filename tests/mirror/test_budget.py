"""The fleet together never asks more than a registry allows (G7), counted at the registry."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest

from mirror import budget as budget_module
from mirror.budget import Allowance, Budget
from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.ledger.budgets import Answered, Budgets, Pace, Wanted
from mirror.resume import Sessions
from mirror.retry import Patience
from mirror.spec import MirrorSpec, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials, CredentialEntry, ExplicitCredentials
from registry.endpoint import Endpoint
from registry.errors import Throttled
from registry.gate import Admission, Answer, Asking
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry, PullLimits
from registry.ratelimits import RateLimits
from registry.repository import Repository
from tests.support.copying import SMALL_BLOB, Rig
from tests.support.engine import Drive, engine_on
from tests.support.hammer import hammer
from tests.support.valkey import ValkeyServer
from workers.cli.summary import closing_line

ADDRESS = "203.0.113.7"
ALL = Allowance(reserve=0.0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No margin for a clock that is the same, and no jitter to wait for."""
    monkeypatch.setattr(budget_module, "CLOCK_MARGIN_S", 0.0)
    monkeypatch.setattr(budget_module, "JITTER_SHARE", 0.0)


@contextmanager
def hub(pulls: int, images: int, **terms: object) -> Iterator[tuple[MemoryRegistry, PullLimits, list[str]]]:
    """A registry that limits pulls, and the digests of what it holds as tags 0, 1, 2 ..."""
    limits = PullLimits(pulls, address=ADDRESS)
    with MemoryRegistry(pulls=limits, **terms) as registry:  # type: ignore[arg-type]  # a test's own words
        digests = [registry.hold("app", image(str(n)), str(n)).digest for n in range(images)]
        yield registry, limits, digests


def image(text: str) -> Image:
    return build_image({"app.txt": text.encode()})


Opener = Callable[..., Repository]


@pytest.fixture
def opened(valkey: ValkeyServer) -> Iterator[Opener]:
    """Opens ``app`` at a host as one more process would: nothing is known yet."""
    with ExitStack() as stack:

        def open_it(host: str) -> Repository:
            client = stack.enter_context(valkey.client())
            gate = Budget(Ledger(client, "test:"), lambda _: ALL)
            connections = Connections(Endpoint, ChainedCredentials(()), gate=gate)
            stack.callback(connections.close)
            return connections.open(f"{host}/app")

        yield open_it


def mirrored(source: str, target: str, **terms: object) -> MirrorSpec:
    spec = MirrorSpec("app", f"{source}/app", (Target(f"{target}/app", "eu"),), referrers=False)
    return replace(spec, **terms)  # type: ignore[arg-type]  # a test's own words


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


def test_a_window_that_has_ended_lets_pulls_go_again(valkey: ValkeyServer, opened: Opener) -> None:
    with hub(3, 9) as (registry, limits, digests):
        source = opened(registry.host)
        assert hammer(source, digests, threads=2) == 3
        limits.end_window()
        ends_the_window(valkey, registry.host)

        assert hammer(source, digests, threads=2) == 3
        assert limits.refused[ADDRESS] == 0


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


# -- pauses -------------------------------------------------------------------------------------------


def test_one_workers_429_stops_all_others(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "LOOK_FOR_PAUSE_S", 0.2)
    with MemoryRegistry() as registry:
        registry.hold("app", image("one"), "1")
        one, other = opened(registry.host), opened(registry.host)
        one.resolve("1")
        other.resolve("1")
        registry.on_request = refusing("HEAD", "/manifests/", "600")
        with pytest.raises(Throttled):
            one.resolve("1")
        time.sleep(0.25)
        asked = len(registry.requests)

        with pytest.raises(Throttled, match="asked to be left alone") as caught:
            other.blob_size(image("one").layers[0].descriptor.digest)
        assert len(registry.requests) == asked
        assert caught.value.retry_after_s == pytest.approx(600, abs=10)


def test_no_thread_of_a_new_process_is_faster_than_its_first_look_for_a_pause(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        ledger.budgets.pause("r.example", "", 600)
        look = ledger.budgets.paused_s

        def look_slowly(host: str, account: str) -> float:
            time.sleep(0.1)
            return look(host, account)

        monkeypatch.setattr(ledger.budgets, "paused_s", look_slowly)
        gate = Budget(ledger, lambda _: ALL)
        asking = Asking("r.example", "", "app", "app:1", "GET", "blob")

        def is_refused(_: int) -> bool:
            try:
                gate.admit(asking)
            except Throttled:
                return True
            return False

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_refused, range(8)))


def test_a_429_that_does_not_say_how_long_is_answered_with_growing_pauses(
    valkey: ValkeyServer, opened: Opener
) -> None:
    with MemoryRegistry() as registry, valkey.client() as client:
        registry.hold("app", image("one"), "1")
        registry.on_request = refusing("HEAD", "/manifests/", None)
        pauses = []
        for _ in range(3):
            with pytest.raises(Throttled) as caught:
                opened(registry.host).resolve("1")
            pauses.append(caught.value.retry_after_s)
            client.delete(Ledger(client, "test:").keys.pause(registry.host, ""))

    assert pauses == [5.0, 10.0, 20.0]


def test_a_pause_is_reported_with_its_end(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        budgets = Ledger(client, "test:").budgets
        budgets.pause("r.example", "", 7200)
        answer(budgets, 76, of=100)

        paused, pulls = sorted(budgets.report(), key=lambda one: one.host, reverse=True)
    assert paused.paused_until_s == pytest.approx(time.time() + 7200, abs=30)
    assert (pulls.host, pulls.source, pulls.limit, pulls.remaining) == ("hub", ADDRESS, 100, 76)


def test_a_session_that_may_not_be_deleted_now_is_left_to_whoever_comes_next(rig: Rig) -> None:
    blob, content = SMALL_BLOB, rig.content
    sessions = Sessions(content)
    upload = sessions.open(blob, rig.target)
    assert upload is not None
    host, path = rig.target.host, "app"

    class Paused:
        host, name = rig.target.host, rig.target.name

        def cancel_upload(self, _: object) -> None:
            raise Throttled(self.host, "", "left alone", retry_after_s=60.0)

    sessions.cancel(blob, Paused(), upload)  # type: ignore[arg-type]  # all that is asked of it
    assert content.sight(host, path, blob.digest).session is not None

    sessions.cancel(blob, rig.target, upload)
    assert content.sight(host, path, blob.digest).session is None


# -- the arithmetic, with a clock of its own -------------------------------------------------------


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budgets(valkey: ValkeyServer, clock: Clock) -> Iterator[Budgets]:
    with valkey.client() as client:
        yield Budgets(client, Ledger(client, "test:").keys, clock)


def pull(token: str, *, looked: bool = False) -> Wanted:
    return Wanted("hub", "", ADDRESS, token, looked=looked)


def answer(
    budgets: Budgets, remaining: int | None, of: int = 10, token: str = "", at: float | None = None
) -> float | None:
    limits = None if remaining is None else RateLimits(of, remaining, 21600)
    return budgets.answered(Answered("hub", ADDRESS, token, at, 0.0, may_count=True, limits=limits))


def test_what_is_under_way_is_spent(budgets: Budgets) -> None:
    answer(budgets, 2)

    words = [budgets.admit(pull(token)).word for token in ("a", "b", "c")]
    assert words == ["go", "go", "busy"]


def test_a_killed_workers_reservation_comes_back_with_the_next_look(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 1)
    assert budgets.admit(pull("killed")).word == "go"
    assert budgets.admit(pull("other")).word == "busy"

    clock.now += 121
    assert budgets.admit(pull("other")).word == "look", "it may have been counted, or not"
    answer(budgets, 1, at=clock.now)
    assert budgets.admit(pull("other", looked=True)).word == "go"


def test_a_killed_workers_pull_that_was_counted_stays_spent(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 1)
    budgets.admit(pull("killed"))
    clock.now += 121
    budgets.admit(pull("other"))
    answer(budgets, 0, at=clock.now)

    assert budgets.admit(pull("other", looked=True)).word == "empty"


def test_an_answer_that_was_overtaken_gives_nothing_back(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 10)
    clock.now += 1
    slow, quick = (budgets.admit(pull(token)).at for token in ("slow", "quick"))
    clock.now += 1
    answer(budgets, 1, token="quick", at=quick)
    answer(budgets, 9, token="slow", at=slow)

    clock.now += 1
    assert budgets.admit(pull("next")).word != "go"


def test_at_the_end_of_a_window_one_looks_and_only_what_is_left_goes(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 0)
    waits = budgets.admit(pull("early"))
    assert (waits.word, waits.seconds) == ("empty", 900.0), "looked at again before its six hours are over"

    clock.now += 21600
    words = [budgets.admit(pull(f"{n}")).word for n in range(50)]
    assert (words.count("look"), words.count("busy")) == (1, 49)

    answer(budgets, 10, at=clock.now)
    words = [budgets.admit(pull(f"{n}")).word for n in range(50)]
    assert (words.count("go"), words.count("busy")) == (10, 40)


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_no_minute_holds_more_requests_than_the_pace_allows(
    budgets: Budgets, clock: Clock, per_minute: int
) -> None:
    wanted = Wanted("hub", "", pace=Pace(per_minute))
    sent: list[float] = []
    while len(sent) < 3 * per_minute + 2:
        verdict = budgets.admit(wanted)
        if verdict.word == "go":
            sent.append(clock.now + verdict.seconds)
        else:
            assert verdict.word == "paced"
            clock.now += verdict.seconds

    busiest = max(sum(start <= at < start + 60 - 1e-3 for at in sent) for start in sent)
    assert busiest <= per_minute
    assert sent[-1] - sent[0] <= 60 * (3 * per_minute + 2) / (0.9 * per_minute), "nor much less"


def test_a_paced_request_waits_for_its_turn_and_no_longer_than_a_slot_may(valkey: ValkeyServer) -> None:
    waits: list[float] = []
    with valkey.client() as client:
        gate = Budget(Ledger(client, "test:"), lambda _: Allowance(30), waits.append)
        asking = Asking("r.example", "", "app", "app:1", "HEAD", "manifest")
        with pytest.raises(Throttled, match="requests_per_minute") as caught:
            ask_often(gate, asking)

    assert 1 <= len(waits) <= 6
    assert max(waits) <= 10.0
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 10.0


def ask_often(gate: Budget, asking: Asking) -> None:
    for _ in range(30):
        gate.admit(asking)


# -- what costs nothing -------------------------------------------------------------------------------


def test_a_registry_without_limits_costs_one_command_a_second(valkey: ValkeyServer, opened: Opener) -> None:
    with MemoryRegistry() as registry, valkey.client() as client:
        digest = registry.hold("app", image("one"), "1").digest
        source = opened(registry.host)
        source.resolve("1")
        before, began = commands(client), time.monotonic()
        for _ in range(60):
            source.resolve("1")
            source.manifest(digest)
        took = time.monotonic() - began

        assert commands(client) - before - 1 <= took / budget_module.LOOK_FOR_PAUSE_S + 1
        assert registry.count("manifest", "HEAD") == 61, "nor is anything looked at"


def test_images_that_nobody_counts_go_on_where_others_must_wait(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        gate = Budget(Ledger(client, "test:"), lambda _: ALL)
        counted, free = (Asking("docker.io", "", name, name, "GET", "manifest") for name in ("app", "free"))
        assert gate.admit(counted) is None
        told(gate, counted, RateLimits(100, 0, 21600, ADDRESS))
        with pytest.raises(Throttled):
            gate.admit(counted, looked=True)
        assert gate.admit(free) is None
        told(gate, free, None)

        assert gate.admit(free, looked=True) is not None
        with pytest.raises(Throttled):
            gate.admit(counted)


def told(gate: Budget, asking: Asking, limits: RateLimits | None) -> None:
    head = replace(asking, method="HEAD")
    admission = gate.admit(head)
    assert isinstance(admission, Admission)
    gate.answered(admission, Answer(200, limits))


def commands(client: object) -> int:
    return int(client.info("stats")["total_commands_processed"])  # type: ignore[attr-defined]  # redis.Redis


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


def refusing(method: str, part: str, retry_after: str | None) -> Callable[[str, str], None]:
    def refuse(asked: str, path: str) -> None:
        if asked == method and part in path:
            headers = {} if retry_after is None else {"Retry-After": retry_after}
            raise ErrorReply(429, "TOOMANYREQUESTS", "slow down", headers)

    return refuse


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
