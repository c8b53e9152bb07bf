"""A probe of one registry: what it measures, what it is spared, and what counts as an outage."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mirror.budget import Allowance, Budget
from mirror.engine import Engine
from mirror.ledger.leases import Lease
from mirror.ledger.probes import Measurement
from mirror.probing import Subject, probe
from mirror.retry import Patience
from mirror.spec import MirrorSpec, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials, CredentialEntry, CredentialSource, ExplicitCredentials
from registry.endpoint import Endpoint, Timeouts
from registry.errors import Throttled
from registry.images import LINUX_AMD64, LINUX_ARM64, build_image, build_index
from registry.memory import Cut, ErrorReply, MemoryRegistry, PullLimits
from registry.timing import AT_ONCE, Stopwatch
from tests.conftest import RegistryFactory
from tests.support.engine import Drive, engine_on
from tests.support.ports import LOOPBACK, free_port
from tests.support.pushing import push
from tests.support.registries import RegistryOptions
from tests.support.token_server import Answer, LoopbackTokenServer, User
from tests.support.valkey import ValkeyServer

LAYER = secrets.token_bytes(3 * 2**20)
IMAGE = build_image({"bin/app": LAYER})
MIB = 2**20


@dataclass
class Prober:
    engine: Engine
    connections: Connections

    def probe(self, host: str, most_bytes: int = MIB, *, pulls: bool = False) -> Measurement:
        subject = Subject(f"{host}/app", IMAGE.manifest.descriptor)
        return probe(self.engine, self.connections, "eu", host, subject, most_bytes, pulls=pulls)


@pytest.fixture
def prober(valkey: ValkeyServer) -> Iterator[Prober]:
    yield from prober_on(valkey)


def prober_on(
    valkey: ValkeyServer, accounts: CredentialSource | None = None, allowance: Allowance | None = None
) -> Iterator[Prober]:
    with engine_on(valkey) as engine:
        connections = Connections(
            lambda host: Endpoint(host, timeouts=Timeouts(connect_s=1.0, read_s=2.0, whole_s=3.0)),
            accounts or ChainedCredentials(()),
            gate=Budget(engine.ledger, lambda _: allowance or Allowance()),
        )
        own = replace(
            engine,
            patience=Patience(attempts=1),
            open_repository=connections.open,
            counts_pulls=connections.counts_pulls,
        )
        yield Prober(own, connections)
        connections.close()


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as one:
        one.hold("app", IMAGE, "v1")
        yield one


def test_all_is_measured_and_no_more_of_a_layer_is_read_than_was_said(
    prober: Prober, registry: MemoryRegistry
) -> None:
    one = prober.probe(registry.host)

    assert (one.up, one.error, one.token_s) == (True, "", None)
    for seconds in (one.hello_s, one.head_s, one.first_byte_s):
        assert seconds is not None
        assert 0 < seconds < 2
    assert one.bytes_per_second is not None
    assert one.bytes_per_second > MIB
    assert (one.region, one.host, one.repository) == ("eu", registry.host, f"{registry.host}/app")
    asked = [(each.method, each.kind) for each in registry.requests]
    assert asked == [("GET", "ping"), ("HEAD", "manifest"), ("GET", "manifest"), ("GET", "blob")]
    assert prober.probe(registry.host).up
    assert registry.count("manifest", "GET") == 1, "the second one knows the manifest"


def test_a_layer_that_is_smaller_than_what_may_be_read_is_read_whole(
    prober: Prober, registry: MemoryRegistry
) -> None:
    one = prober.probe(registry.host, 100 * MIB)
    assert (one.up, one.error) == (True, "")
    assert one.bytes_per_second is not None


def test_of_an_index_an_image_that_the_mirror_copies_is_read(
    prober: Prober, registry: MemoryRegistry
) -> None:
    arm = build_image({"bin/app": LAYER[:MIB]}, platform=LINUX_ARM64)
    index = build_index([build_image({"bin/app": LAYER[MIB:]}, platform=LINUX_AMD64), arm])
    registry.hold("app", index, "v2")
    registry.forget_requests()
    root = index.manifest.descriptor
    subject = Subject(f"{registry.host}/app", root, platforms=("linux/arm64",))

    one = probe(prober.engine, prober.connections, "eu", registry.host, subject, MIB)

    assert (one.up, one.error) == (True, "")
    layer = max(arm.blobs, key=lambda blob: blob.descriptor.size).descriptor.digest
    assert [each.path for each in registry.requests if each.kind == "blob"] == [f"/v2/app/blobs/{layer}"]


def test_a_registry_that_counts_pulls_loses_none_unless_that_is_allowed(prober: Prober) -> None:
    with MemoryRegistry(pulls=PullLimits(5)) as registry:
        registry.hold("app", IMAGE, "v1")

        one = prober.probe(registry.host)

        assert (one.up, one.first_byte_s, one.bytes_per_second) == (True, None, None)
        assert one.head_s is not None
        assert one.error == "no layer was read: the registry counts pulls"
        assert registry.count("manifest", "GET") == registry.count("blob") == 0

        assert prober.probe(registry.host, pulls=True).bytes_per_second is not None
        budgets = prober.engine.ledger.budgets.report([registry.host])
        assert [budget.remaining for budget in budgets] == [4], "it is taken from the fleet's budget"


def test_a_probe_that_may_pull_leaves_what_is_kept_for_the_release_lane(valkey: ValkeyServer) -> None:
    with MemoryRegistry(pulls=PullLimits(5)) as registry:
        registry.hold("app", IMAGE, "v1")
        for prober in prober_on(valkey, allowance=Allowance(reserve=1.0)):
            one = prober.probe(registry.host, pulls=True)

            assert one.up
            assert "kept for the release lane" in one.error
            assert registry.count("manifest", "GET") == 0


def test_a_registry_that_is_paused_is_not_asked_and_nothing_is_said_of_it(
    prober: Prober, registry: MemoryRegistry
) -> None:
    prober.engine.ledger.budgets.pause(registry.host, "", 600)

    with pytest.raises(Throttled, match="asked to be left alone"):
        prober.probe(registry.host)

    assert registry.requests == []


def test_a_429_to_the_greeting_pauses_the_host_for_all_and_is_no_outage(
    prober: Prober, registry: MemoryRegistry
) -> None:
    def refuse(method: str, path: str) -> None:
        raise ErrorReply(429, "TOOMANYREQUESTS", f"{method} {path}", {"Retry-After": "300"})

    registry.on_request = refuse

    with pytest.raises(Throttled):
        prober.probe(registry.host)

    assert prober.engine.ledger.budgets.paused_s(registry.host, "") > 200


def test_a_registry_that_does_not_answer_is_not_up_and_says_why(
    prober: Prober, registry: MemoryRegistry
) -> None:
    host = f"127.0.0.1:{free_port()}"
    dead = prober.probe(host)
    assert (dead.up, dead.hello_s) == (False, None)
    assert dead.error.startswith(f"{host}: ")

    registry.stop()
    assert not prober.probe(registry.host).up


@pytest.mark.parametrize("kind", ["ping", "manifest", "blob"])
def test_an_answer_of_5xx_to_any_question_is_a_failed_probe(
    prober: Prober, registry: MemoryRegistry, kind: str
) -> None:
    def fail(_: str, __: str) -> None:
        if registry.requests[-1].kind == kind:
            raise ErrorReply(503, "UNAVAILABLE", "its storage is away")

    registry.on_request = fail

    one = prober.probe(registry.host)

    assert not one.up
    assert "503" in one.error


def test_a_layer_that_breaks_off_is_a_failed_probe(prober: Prober, registry: MemoryRegistry) -> None:
    def cut(_: str, __: str) -> None:
        if registry.requests[-1].kind == "blob":
            raise Cut

    registry.on_request = cut

    one = prober.probe(registry.host)

    assert (one.up, one.bytes_per_second) == (False, None)
    assert one.head_s is not None, "what was measured is kept"


def test_an_image_that_is_not_there_is_no_outage(prober: Prober) -> None:
    with MemoryRegistry() as empty:
        one = prober.probe(empty.host)
        assert one.up
        assert (one.hello_s is None, one.head_s) == (False, None)
        assert "404" in one.error


def test_a_registry_that_hangs_ends_the_probe_after_its_time(
    prober: Prober, registry: MemoryRegistry
) -> None:
    with registry.pause(lambda _, path: path == "/v2/"):
        began = time.monotonic()
        one = prober.probe(registry.host)
    assert not one.up
    assert time.monotonic() - began < 60


def test_a_probe_holds_up_nobody_who_needs_the_same_manifest(
    prober: Prober, registry: MemoryRegistry
) -> None:
    content = prober.engine.ledger.content
    with ThreadPoolExecutor(1) as pool:
        with registry.pause(lambda method, path: method == "GET" and "/manifests/" in path) as pause:
            one = pool.submit(prober.probe, registry.host)
            assert pause.reached.wait(10)
            lease = content.begin_reading(IMAGE.digest)
        assert isinstance(lease, Lease), "the turn to read it is free"
        content.leases.release(lease)
        assert one.result(30).bytes_per_second is not None


def test_a_probe_waits_for_nobody_who_reads_the_same_manifest(
    prober: Prober, registry: MemoryRegistry
) -> None:
    content = prober.engine.ledger.content
    lease = content.begin_reading(IMAGE.digest)
    assert isinstance(lease, Lease)
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(prober.probe, registry.host)
        try:
            assert one.result(30).bytes_per_second is not None
        finally:
            content.leases.release(lease)


@pytest.fixture
def trickling() -> Iterator[str]:
    """A registry whose answer never ends, a few bytes at a time."""
    over = threading.Event()
    with socket.create_server((LOOPBACK, 0)) as server, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not over.wait(0.2):
                    connection.sendall(b"y")

        pool.submit(answer)
        yield f"{LOOPBACK}:{server.getsockname()[1]}"
        over.set()


def test_a_registry_that_trickles_ends_the_probe_after_its_time(prober: Prober, trickling: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(prober.probe, trickling).result(30)
    assert not one.up
    assert "the answer takes too long" in one.error


def test_of_a_slow_layer_no_more_is_waited_for_than_there_is_time(
    prober: Prober, registry: MemoryRegistry
) -> None:
    layer = max((blob.descriptor for blob in IMAGE.blobs), key=lambda blob: blob.size)
    seconds = itertools.count()
    watch = Stopwatch(prober.connections.registry(registry.host), "app", clock=lambda: float(next(seconds)))

    watch.read(layer, layer.size)

    assert watch.bytes_per_second is not None
    assert watch.bytes_per_second <= AT_ONCE, "a block a second, by this clock"


def test_of_an_empty_repository_only_the_registry_is_asked(prober: Prober, registry: MemoryRegistry) -> None:
    one = probe(prober.engine, prober.connections, "eu", registry.host, Subject(), MIB)
    assert (one.up, one.repository, one.head_s) == (True, "", None)
    assert registry.count("ping") == len(registry.requests) == 1


class TestRealRegistries:
    @pytest.fixture
    def server(self, scratch: Path) -> Iterator[LoopbackTokenServer]:
        with LoopbackTokenServer(scratch, {"ann": User("secret", {"app": "pull,push"})}) as server:
            server.anonymous = {"app": "pull,push"}
            yield server

    def test_docker_registry_is_measured(self, prober: Prober, registry_factory: RegistryFactory) -> None:
        registry = registry_factory()
        push(f"{registry.host}/app", IMAGE, "v1")

        one = prober.probe(registry.host)

        assert (one.up, one.error) == (True, "")
        assert None not in {one.hello_s, one.head_s, one.first_byte_s, one.bytes_per_second}

    def test_a_token_is_issued_anew_each_time_and_its_time_told(
        self, valkey: ValkeyServer, server: LoopbackTokenServer, registry_factory: RegistryFactory
    ) -> None:
        registry = registry_factory(RegistryOptions(token=server.auth))
        accounts = ExplicitCredentials({registry.host: CredentialEntry("ann", "secret")})
        for prober in prober_on(valkey, accounts):
            one = prober.probe(registry.host)

            assert one.up
            assert one.token_s is not None
            assert len(server.issued) == 1
            assert "404" in one.error, "the repository is empty"
            prober.connections.close()
            assert prober.probe(registry.host).token_s is not None
            assert len(server.issued) == 2

            server.answer = Answer(503)
            prober.connections.close()
            failed = prober.probe(registry.host)
            assert (failed.up, failed.token_s) == (False, None)
            assert failed.hello_s is not None

    def test_a_wrong_password_is_no_outage_of_the_registry(
        self, valkey: ValkeyServer, server: LoopbackTokenServer, registry_factory: RegistryFactory
    ) -> None:
        registry = registry_factory(RegistryOptions(token=server.auth))
        accounts = ExplicitCredentials({registry.host: CredentialEntry("ann", "wrong")})
        for prober in prober_on(valkey, accounts):
            one = prober.probe(registry.host)
            assert (one.up, one.token_s) == (True, None)
            assert one.error
            assert "wrong" not in one.error.replace("wrong password", "")

    def test_credentials_that_are_missing_are_no_outage_of_the_registry(
        self, prober: Prober, registry_factory: RegistryFactory
    ) -> None:
        one = prober.probe(registry_factory(RegistryOptions(users=(("ann", "secret"),))).host)
        assert (one.up, one.head_s) == (True, None)
        assert "401" in one.error


def test_a_run_leaves_an_image_for_probes_to_ask_for(valkey: ValkeyServer, registry: MemoryRegistry) -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(engine_on(valkey))
        target = stack.enter_context(MemoryRegistry())
        spec = MirrorSpec("app", f"{registry.host}/app", (Target(f"{target.host}/app"),), referrers=False)
        assert engine.ledger.probes.samples.of(["app"]) == {}

        Drive(engine, spec).all()
        registry.hold("app", build_image({"bin/app": b"2"}), "v0")
        Drive(engine, spec).all()

        sample = engine.ledger.probes.samples.of(["app", "other"])["app"]
        assert (sample.tag, sample.root.digest) == ("v0", registry.tag("app", "v0")), "the one that moved"
        engine.ledger.probes.samples.keep_only({"other"})
        assert engine.ledger.probes.samples.of(["app"]) == {}


def test_of_a_wildcard_the_image_says_which_repository_it_is_in(
    valkey: ValkeyServer, registry: MemoryRegistry
) -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(engine_on(valkey))
        target = stack.enter_context(MemoryRegistry())
        registry.hold("team/one", IMAGE, "v1")
        spec = MirrorSpec("all", f"{registry.host}/team/*", (Target(f"{target.host}/*"),), referrers=False)

        Drive(engine, spec).all()

        assert engine.ledger.probes.samples.of(["all"])["all"].rest == "one"
