"""A server that dies and a replica that takes over: what is promised is there, or nothing moves on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mirror.ledger import Ledger, LedgerError
from mirror.ledger import promises as subject
from mirror.spec import MirrorSpec, Target
from registry.images import build_image
from registry.memory import MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.ports import LOOPBACK
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

SPEC = MirrorSpec("app", "src.example/app", (Target("eu.example/app", "eu"),))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "CONFIRM_MS", 2000)


@contextmanager
def replica_of(server: ValkeyServer, folder: Path) -> Iterator[ValkeyServer]:
    """A replica that has caught up."""
    folder.mkdir()
    options = {"replicaof": f"{LOOPBACK} {server.port}"}
    with ValkeyServer(folder, options) as replica, replica.client() as client:

        def is_there() -> bool:
            told: Any = client.info("replication")
            return bool(told["master_link_status"] == "up")

        until(is_there, 20, replica.process.tail)
        yield replica


def test_what_no_replica_has_written_is_not_confirmed(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        ledger = Ledger(client, replicas=1)
        with pytest.raises(LedgerError, match=r"0 of 1 replicas.*SEALIFT_CONFIRM_REPLICAS"):
            ledger.confirm()


def test_what_is_confirmed_is_known_to_the_replica_that_takes_over(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    with valkey.client() as client, replica_of(valkey, tmp_path / "replica") as replica:
        ledger = Ledger(client, replicas=1)
        run = ledger.create_run(SPEC, "release")
        ledger.confirm_runs([run])
        valkey.kill()

        with replica.client() as other:
            assert Ledger(other).run_report(run).state == "open"


def test_a_run_that_only_the_dead_primary_knew_is_not_called_enqueued(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        ledger = Ledger(client)
        run = ledger.create_run(SPEC, "release")
        client.flushall()  # another has taken over, which never heard of it
        with pytest.raises(LedgerError, match=f"lacks run {run}"):
            ledger.confirm_runs([run])


def test_a_server_that_knows_no_waitaof_has_its_replicas_asked_whether_they_received_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "primary").mkdir()
    older = {"rename-command": "WAITAOF NO-WAITAOF"}
    with ValkeyServer(tmp_path / "primary", older) as primary, primary.client() as client:
        Ledger(client).confirm()
        with replica_of(primary, tmp_path / "replica"):
            Ledger(client, replicas=1).confirm()
            with pytest.raises(LedgerError, match="1 of 2 replicas"):
                Ledger(client, replicas=2).confirm()


def test_a_replica_cannot_promise_and_says_so(valkey: ValkeyServer, tmp_path: Path) -> None:
    with replica_of(valkey, tmp_path / "replica") as replica, replica.client() as client:
        with pytest.raises(LedgerError, match="read only"):
            Ledger(client).confirm()

        client.config_set("replica-read-only", "no")
        with pytest.raises(LedgerError, match="cannot be used with replica"):
            Ledger(client).confirm()


def test_a_mark_that_could_not_be_written_is_no_promise(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-set")

        with pytest.raises(LedgerError, match="no permissions"):
            Ledger(client).confirm()


# -- flips -----------------------------------------------------------------------------------------


class Flipping:
    """A new image under a tag that both targets have at an old one, landed and ready to move."""

    def __init__(self, valkey: ValkeyServer, us: MemoryRegistry, eu: MemoryRegistry, drive: Drive) -> None:
        self.valkey, self.us, self.eu, self.drive = valkey, us, eu, drive
        self.ledger = drive.engine.ledger

    def where(self) -> set[str | None]:
        return {registry.tag("app", "1.0") for registry in (self.us, self.eu)}

    def move_to(self, server: ValkeyServer) -> None:
        """Have the ledger talk to another server, as Sentinels would."""
        pool = self.ledger._redis.connection_pool
        pool.connection_kwargs["port"] = server.port
        pool.disconnect()
        pool.reset()


OLD, NEW = (build_image({"app": text}) for text in (b"old", b"new"))


@pytest.fixture
def flipping(valkey: ValkeyServer) -> Iterator[Flipping]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        source.hold("app", NEW, "1.0")
        for registry in (us, eu):
            registry.hold("app", OLD, "1.0")
        targets = tuple(Target(f"{registry.host}/app", name) for name, registry in (("us", us), ("eu", eu)))
        drive = Drive(engine, MirrorSpec("app", f"{source.host}/app", targets, referrers=False))
        drive.resolve()
        drive.land()
        yield Flipping(valkey, us, eu, drive)


def test_no_tag_moves_while_what_it_was_is_on_no_replica(flipping: Flipping, tmp_path: Path) -> None:
    flipping.ledger._replicas = 1
    flipping.drive.finalize()

    (batch,) = flipping.drive.batches
    for _ in range(3):
        flipping.drive.flip("us")
        assert flipping.ledger.batches.swept(batch) == 1, "it waits, and has not stopped moving"
    assert flipping.where() == {OLD.digest}
    assert "0 of 1 replicas" in flipping.drive.report.waits
    assert batch not in flipping.ledger.take_due(0), "it is looked at again when its pause is over"

    with replica_of(flipping.valkey, tmp_path / "replica"):
        flipping.drive.flip()
        assert flipping.drive.conclude() == ["concluded"]
    assert flipping.where() == {NEW.digest}


@pytest.mark.parametrize("knows", ["an earlier state", "nothing"])
def test_no_tag_moves_on_a_replica_that_took_over_and_lacks_the_state_it_was_decided_on(
    flipping: Flipping, tmp_path: Path, knows: str
) -> None:
    with replica_of(flipping.valkey, tmp_path / "replica") as replica, replica.client() as other:
        other.replicaof("NO", "ONE")  # it hears nothing of what is decided from here on
        if knows == "nothing":
            other.flushall()
        assert flipping.drive.finalize() == ["flip"]

        def fail_over(method: str, path: str) -> None:
            if method == "HEAD" and path.endswith("/manifests/1.0") and flipping.valkey.process.running:
                flipping.valkey.kill()
                flipping.move_to(replica)

        flipping.us.on_request = fail_over  # while what the tag is gets looked at for the journal
        with pytest.raises(LedgerError, match="it has fallen back"):
            flipping.drive.flip("us")

        assert flipping.where() == {OLD.digest}
        if knows == "nothing":
            return
        flipping.us.on_request = None
        flipping.drive.to_end()
        assert flipping.where() == {NEW.digest}
        assert flipping.drive.report.states == {"updated": 1}
        (tag,) = flipping.drive.tags.values()
        assert {target.previous for target in tag.targets} == {OLD.digest}
