"""Which Redis a fleet runs on, which it refuses, and what it says then: real servers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.utils import filter_hidden_settings
from redis import Redis
from redis.exceptions import NoPermissionError

from config.settings import Settings
from mirror.spec import MirrorSpec, Target
from registry.images import build_image
from registry.memory import MemoryRegistry
from tasks import broker
from tasks.broker import BrokerUnreachable, WrongBroker, check, connect
from tasks.configuration import celery_configuration
from tests.support.certificates import Certificates, make_certificates
from tests.support.fleet import Fleet, made
from tests.support.ports import LOOPBACK, free_port
from tests.support.process import Process, surroundings
from tests.support.sentinels import FailingOver
from tests.support.valkey import ValkeyServer, needed_binary
from tests.support.waiting import until

SEALIFT = [sys.executable, "-P", "-m", "workers.cli"]
SECRET = "hunter2-of-redis"
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def account(name: str) -> str:
    """The ACL rules of an account as docs/operations.md shows them."""
    (line,) = [line for line in OPERATIONS.read_text().splitlines() if line.startswith(f"user {name} on >")]
    return line.partition(">PASSWORD ")[2]


def with_account(url: str, name: str) -> str:
    return url.replace("://", f"://{name}:{SECRET}@")


def round_trip(url: str) -> int:
    """A message to the broker and a value to the results, by Celery; how many messages wait."""
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_configuration(Settings(), url, ["eu"]))
    with app.connection_for_write() as connection:
        app.send_task("sealift.sweep", queue="eu", connection=connection)
    results: Any = app.backend  # the Redis one
    results.client.set("sealift:trial", 1)
    app.close()
    with connect(url) as client:
        assert client.get("sealift:trial") == b"1"
        waiting = client.llen("sealift:eu")
        assert isinstance(waiting, int)
        return waiting


# -- what is refused -------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path, {"cluster-enabled": "yes", "cluster-port": str(free_port())}) as server:
        yield server


@pytest.mark.parametrize(
    "command",
    [
        [*SEALIFT, "runs"],
        [*SEALIFT, "worker", "--region", "eu"],
        [*SEALIFT, "exporter", "--host", LOOPBACK, "--port", "0"],
    ],
    ids=["runs", "worker", "exporter"],
)
def test_a_cluster_is_refused_at_once_and_in_one_line(
    cluster: ValkeyServer, command: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        command,
        env={
            **surroundings(),
            "SEALIFT_REDIS_URL": cluster.url,
            "SEALIFT_STATE_DIR": str(tmp_path / "state"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3, done.stderr
    assert "is a cluster, and Celery's transport (kombu) cannot" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_sentinel_is_no_server_for_a_fleet(tmp_path: Path) -> None:
    port, conf = free_port(), tmp_path / "sentinel.conf"
    conf.write_text(f"port {port}\nbind {LOOPBACK}\n")
    with Process([str(needed_binary()), str(conf), "--sentinel"], tmp_path / "log") as process:

        def answer() -> str:
            try:
                connect(f"redis://{LOOPBACK}:{port}")
            except BrokerUnreachable:
                return ""
            except WrongBroker as error:
                return str(error)
            return "nothing was wrong"

        assert "is a Sentinel; write sentinel://" in until(answer, 10, process.tail)


def test_a_replica_is_refused_while_it_is_one(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        client.replicaof(LOOPBACK, str(free_port()))
        with pytest.raises(BrokerUnreachable, match="is a replica, which takes no writes"):
            connect(valkey.url)
        client.replicaof("NO", "ONE")
    connect(valkey.url).close()


@pytest.mark.parametrize(
    ("server", "version", "is_fine"),
    [
        ("redis", "6.0.20", False),
        ("redis", "6.2.0", True),
        ("redis", "10.1", True),
        ("valkey", "7.2.4", True),
        ("kin", "1.0", True),
    ],
)
def test_a_server_that_is_too_old_is_named_with_what_to_use(server: str, version: str, is_fine: bool) -> None:  # noqa: FBT001 - of a table
    fault = broker._fault({"server": server, "version": version, "mode": "standalone"})

    assert fault == "" if is_fine else "use 6.2 or later" in fault


@pytest.mark.parametrize(
    "url",
    ["redis://:{}@127.0.0.1:{}/0", "sentinel://:{0}@127.0.0.1:{1}/0?master_name=m&sentinel_password={0}"],
)
def test_a_redis_that_does_not_answer_is_named_without_its_password(url: str) -> None:
    with pytest.raises(BrokerUnreachable, match="does not answer") as caught:
        connect(url.format(SECRET, free_port()))
    assert SECRET not in str(caught.value)


def test_an_account_that_is_refused_is_told_apart_from_silence(valkey: ValkeyServer) -> None:
    with pytest.raises(BrokerUnreachable, match="refuses the account") as caught:
        connect(with_account(valkey.url, "nobody"))
    assert SECRET not in str(caught.value)
    (said,) = check(with_account(valkey.url, "nobody"), 3)
    assert said == str(caught.value)


def test_a_server_that_may_forget_is_warned_of(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        assert check(valkey.url, 3) == []
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")

    evicts, forgets, few = check(valkey.url, 3, 2)
    assert "0 of the 2 replicas" in few
    assert evicts.endswith("set maxmemory-policy noeviction")
    assert forgets.endswith("set appendonly yes")


# -- what is reached -------------------------------------------------------------------------------


def test_a_socket_with_an_account_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    with ValkeyServer(tmp_path, {"unixsocket": str(path)}) as server, server.client() as client:
        grant(client, "worker")
        assert round_trip(f"redis+socket://worker:{SECRET}@{path}?virtual_host=0") == 1


def test_sentinels_with_passwords_of_their_own_are_asked(tmp_path: Path) -> None:
    with FailingOver(tmp_path, SECRET, f"{SECRET}-of-sentinels") as redis:
        assert round_trip(redis.url) == 1


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:{0}@cache/0",
        "rediss://me:{0}@cache/0?ssl_keyfile=/k.pem",
        "redis+socket://me:{0}@/run/redis.sock",
        "sentinel://me:{0}@a;sentinel://b;sentinel://c?master_name=m&sentinel_password={0}&ssl=true",
    ],
)
def test_no_password_is_in_what_celery_and_flower_show_of_the_configuration(url: str) -> None:
    """As `celery inspect conf` and Flower's page of a worker have it, and a worker's banner."""
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_configuration(Settings(), url.format(SECRET), ["eu"]))

    shown = str(filter_hidden_settings(dict(app.conf.table(with_defaults=True))))

    with app.connection_for_read() as connection:
        banner = connection.as_uri()
    assert SECRET not in f"{shown} {banner} {app.backend.as_uri()}"
    assert SECRET not in app.conf.result_backend  # kombu would hide one password of several
    assert SECRET in app.conf.broker_url
    assert app.conf.redis_password == SECRET


@contextmanager
def guarded(folder: Path, certificates: Certificates) -> Iterator[tuple[ValkeyServer, str]]:
    """A server with TLS, which wants a certificate of its clients; and a URL for it without account."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server with TLS is installed (make test-deps)")
    port = free_port()
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(certificates.certificate),
        "tls-key-file": str(certificates.key),
        "tls-ca-cert-file": str(certificates.authority),
    }
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    with ValkeyServer(made(folder), options, Path(binary)) as server:
        yield server, f"rediss://{LOOPBACK}:{port}/0?ssl_ca_certs={certificates.authority}&{own}"


def test_tls_is_spoken_with_a_certificate_of_ones_own_and_only_to_whom_it_trusts(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    with guarded(tmp_path / "redis", certificates) as (_, url):
        assert round_trip(url) == 1
        place, authority = url.partition("?")[0], f"ssl_ca_certs={certificates.authority}"
        with pytest.raises(BrokerUnreachable, match="certificate verify failed"):
            connect(place)
        with pytest.raises(BrokerUnreachable, match="does not answer"):
            connect(f"{place}?{authority}")


@pytest.mark.fleet
def test_a_fleet_works_over_tls_with_no_more_rights_than_the_documentation_gives(tmp_path: Path) -> None:
    image = build_image({"app": b"new"})
    with (
        MemoryRegistry() as registry,
        guarded(tmp_path / "redis", make_certificates(tmp_path)) as (server, url),
        server.client() as admin,
    ):
        registry.hold("a/app", image, "1.0")
        for name in ("worker", "exporter", "keda"):
            grant(admin, name)
        targets = tuple(Target(f"{registry.host}/{region}/app", region) for region in ("us", "eu"))
        settings = {"SEALIFT_REDIS_URL": with_account(url, "worker")}
        with Fleet(made(tmp_path / "fleet"), ["us", "eu"], settings, server=server) as fleet:
            report = fleet.run(MirrorSpec("app", f"{registry.host}/a/app", targets))
            assert fleet.sealift("status", report.run).returncode == 0
            assert report.states == {"updated": 1}
            assert admin.acl_log() == []
            assert SECRET not in fleet.logs()
            assert not any(SECRET in words for words in command_lines())
            for refused in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("GET", "other")):
                assert is_refused(server, "worker", *refused)


def grant(admin: Redis, name: str) -> None:
    rules = account(name).split()
    if (server := broker._hello(admin))["server"] == "redis" and server["version"] < "7.2":
        rules = [rule for rule in rules if rule != "+waitaof"]
    admin.execute_command("ACL", "SETUSER", name, "on", f">{SECRET}", *rules)  # type: ignore[no-untyped-call]


def is_refused(server: ValkeyServer, name: str, *command: str) -> bool:
    with connect(with_account(server.url, name)) as client:
        try:
            client.execute_command(*command)
        except NoPermissionError:
            return True
        return False


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


KEDA_SCRIPT = """
local kind = redis.call('type', KEYS[1]).ok
local count = {zset = 'zcard', set = 'scard', list = 'llen', hash = 'hlen', none = 'llen'}
return redis.call(count[kind], KEYS[1])
"""
"""As its scaler for Redis lists asks."""


def test_accounts_that_only_look_can_only_look(valkey: ValkeyServer) -> None:
    with valkey.client() as admin:
        admin.rpush("sealift:eu", "message")
        for name in ("exporter", "keda"):
            grant(admin, name)
    with connect(with_account(valkey.url, "keda")) as keda:
        assert keda.eval(KEDA_SCRIPT, 1, "sealift:eu") == 1
        assert keda.llen("sealift:eu") == 1
    with connect(with_account(valkey.url, "exporter")) as exporter:
        assert exporter.lrange("sealift:eu", 0, 0) == [b"message"]
        assert exporter.info("memory")
    for name in ("exporter", "keda"):
        for refused in (("SET", "sealift:x", "1"), ("LPOP", "sealift:eu"), ("GET", "other"), ("FLUSHALL",)):
            assert is_refused(valkey, name, *refused), (name, refused)
