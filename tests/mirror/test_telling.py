"""What the logs say of tags and repositories, and how much of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from mirror.engine import Engine
from mirror.report import FOLLOWS, TagReport, TargetReport
from mirror.spec import MirrorSpec, Target
from mirror.telling import tell_failed
from registry.images import build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

US, EU = "us.example/app", "eu.example/app"


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mirror")


@pytest.fixture
def source() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
def target() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry


@pytest.fixture
def engine(valkey: ValkeyServer) -> Iterator[Engine]:
    with engine_on(valkey, outage_s=60.0) as engine:
        yield engine


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def failed(tag: str) -> TagReport:
    """In ``eu``; in ``us`` it stays where it is since it failed there."""
    reason = f"{EU}:{tag}: denied (403 DENIED)"
    targets = (
        TargetReport(US, "us", "failed", f"{FOLLOWS}{reason}", kind="Denied"),
        TargetReport(EU, "eu", "failed", reason, kind="Denied"),
    )
    return TagReport(tag, None, "failed", reason, targets, "src.example/app")


def test_tags_that_failed_for_one_reason_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    tell_failed("5b14.0", "app", [failed(f"1.{number}") for number in range(40)])

    (line,) = lines(caplog)
    assert line == (
        "40 tags (1.0, 1.1, 1.2, 1.3, 1.4, …) failed in eu.example/app, the first of them: "
        "eu.example/app:1.0: denied (403 DENIED)"
    )


def test_a_tag_that_failed_in_a_folder_names_no_registry_but_a_layout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = TargetReport("oci:/mnt/app", "eu", "failed", "the disk is full", kind="Refused")

    tell_failed("5b14.0", "app", [TagReport("1.0", None, "failed", "", (place,))])

    assert [getattr(record, "registry", "") for record in caplog.records] == ["layout"]


def test_what_fails_of_many_repositories_is_told_by_the_name_of_the_mirror(
    engine: Engine, source: MemoryRegistry, target: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("org/bad", "org/good"):
        source.hold(name, build_image({"app": b"1"}), "1.0")

    def denied(method: str, path: str) -> None:
        if path.startswith("/v2/org/bad/tags/list") or (method == "PUT" and "/manifests/" in path):
            raise ErrorReply(403, "DENIED", "not yours")

    source.on_request = target.on_request = denied
    spec = MirrorSpec("org", f"{source.host}/org/*", (Target(f"{target.host}/copy/*", "eu"),))

    report = Drive(engine, spec).all().report

    assert report.states == {"failed": 2}
    said = {(getattr(one, "mirror", ""), getattr(one, "source", "")) for one in caplog.records}
    assert said == {("org", f"{source.host}/org/bad"), ("org", f"{source.host}/org/good")}
    assert any(line.startswith(f"{source.host}/org/bad cannot be listed") for line in lines(caplog))


def test_a_batch_waits_for_the_reason_that_takes_longest(
    engine: Engine, source: MemoryRegistry, target: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for tag in ("1.0", "2.0"):
        source.hold("app", build_image({"app": b"1"}), tag)

    def unwell(_: str, path: str) -> None:
        if path.endswith("/manifests/1.0"):
            raise ErrorReply(503, "UNAVAILABLE")
        if path.endswith("/manifests/2.0"):
            raise ErrorReply(429, "TOOMANYREQUESTS", headers={"Retry-After": "7200"})

    source.on_request = unwell
    spec = MirrorSpec("app", f"{source.host}/app", (Target(f"{target.host}/app", "eu"),))
    drive = Drive(engine, spec)

    drive.resolve()
    (waits,) = [line for line in lines(caplog) if "waits until" in line]
    assert ":2.0" in waits
    caplog.clear()
    engine.ledger.cancel_run(drive.run)
    engine.ledger._redis.hset(engine.ledger.keys.batch(drive.batches[0]), "state", "concluded")
    drive.resolve()
    assert not [line for line in lines(caplog) if "waits until" in line], "it does not wait any more"


def test_a_listing_that_is_tried_again_says_so(
    engine: Engine, source: MemoryRegistry, target: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    source.hold("app", build_image({"app": b"1"}), "1.0")
    failures = iter([True])

    def unwell_once(_: str, path: str) -> None:
        if "tags/list" in path and next(failures, False):
            raise ErrorReply(503, "UNAVAILABLE")

    source.on_request = unwell_once
    spec = MirrorSpec("app", f"{source.host}/app", (Target(f"{target.host}/app", "eu"),))

    assert Drive(engine, spec).report.tags == 1

    (line,) = [line for line in lines(caplog) if "attempt 2 is made" in line]
    assert source.host in line
