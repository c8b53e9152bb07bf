"""A backfill that is paused, resumed, asked for twice and reported on, on a real fleet (issue 5)."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from textwrap import dedent

import pytest

from registry.images import build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.fleet import Fleet, made
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]
TAGS = 12
SETTINGS = {"SEALIFT_BATCH_TAGS": "1", "SEALIFT_WINDOW_BATCHES": "2"}


@dataclass(frozen=True, slots=True)
class Yard:
    """A fleet with a mirror ``app`` of TAGS tags, two at a time."""

    fleet: Fleet
    source: MemoryRegistry
    target: MemoryRegistry

    def start(self) -> str:
        """The backfill's run, once its first batch is held up at the target."""
        done = self.fleet.sealift("backfill", "app", "--no-wait", "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["runs"][0]["run"])

    def asked(self) -> Counter[str]:
        """How often the source was asked for each tag, and for its list."""
        requests = self.source.requests
        return Counter(
            "list" if one.kind == "tags" else one.path.rsplit("/", 1)[1]
            for one in requests
            if one.kind == "tags" or (one.kind == "manifest" and "sha256:" not in one.path)
        )


@pytest.fixture
def yard() -> Iterator[Yard]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, target = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        for number in range(TAGS):
            source.hold("app", build_image({"a": str(number).encode()}), f"1.{number}")
        made(folder / "fleet")
        (folder / "fleet" / "sealift.yaml").write_text(
            dedent(f"""\
                mirrors:
                  - name: app
                    source: {source.host}/app
                    targets: [{{region: eu, repository: {target.host}/app}}]
                    referrers: false
            """)
        )
        yield Yard(stack.enter_context(Fleet(folder / "fleet", ["eu"], SETTINGS)), source, target)


def test_a_paused_backfill_begins_nothing_and_goes_on_without_asking_twice(yard: Yard) -> None:
    ledger = yard.fleet.ledger
    with yard.target.pause(lambda method, path: method == "PUT" and "/manifests/" in path) as held:
        run = yard.start()
        assert held.reached.wait(30)
        assert yard.fleet.sealift("pause", run).stdout == (
            f"{run} is paused; `sealift resume {run}` lets it go on.\n"
        )
    with yard.fleet.valkey.client() as client:
        until(lambda: not client.scard(ledger.keys.flight(run)), 30, yard.fleet.logs)

    report = ledger.run_report(run)
    assert (report.state, report.is_paused) == ("open", True)
    assert report.states["pending"] >= TAGS - int(SETTINGS["SEALIFT_WINDOW_BATCHES"])
    assert "Paused; `sealift resume" in yard.fleet.sealift("status", run).stdout
    assert "paused" in yard.fleet.sealift("runs").stdout
    assert "was paused already" in yard.fleet.sealift("pause", run).stdout

    done = yard.fleet.sealift("backfill", "--resume", run, "--json")
    assert json.loads(done.stdout)["runs"][0]["states"] == {"updated": TAGS}, done.stderr
    assert yard.asked() == {"list": 1, **{f"1.{number}": 1 for number in range(TAGS)}}


def test_a_cancelled_backfill_ends_what_is_under_way_and_begins_nothing(yard: Yard) -> None:
    with yard.target.pause(lambda method, path: method == "PUT" and "/manifests/" in path) as held:
        run = yard.start()
        assert held.reached.wait(30)
        assert yard.fleet.sealift("cancel", run).stdout == f"{run} is cancelled.\n"
        assert yard.fleet.sealift("cancel", run).stdout == f"{run} had ended already (cancelled).\n"
    with yard.fleet.valkey.client() as client:
        flight = yard.fleet.ledger.keys.flight(run)
        until(lambda: not client.scard(flight), 30, yard.fleet.logs)

    assert len(yard.target.tags("app")) <= int(SETTINGS["SEALIFT_WINDOW_BATCHES"])
    assert len(yard.asked()) <= 1 + int(SETTINGS["SEALIFT_WINDOW_BATCHES"]), "the list, and a window of tags"
    assert yard.start() != run, "the next one is a new one"


def test_a_second_start_of_a_backfill_joins_the_first(yard: Yard) -> None:
    with yard.target.pause(lambda method, path: method == "PUT" and "/manifests/" in path) as held:
        first = yard.start()
        assert held.reached.wait(30)
        second = yard.fleet.sealift("backfill", "app", "--no-wait")
        release = yard.fleet.sealift("sync", "app", "--no-wait")

    assert second.stdout.strip() == first
    assert f"app: joins run {first}, which is under way on the same terms" in second.stderr
    assert release.stdout.strip() != first, "somebody waits for that one"
    assert yard.fleet.wait(first).tags == TAGS
    yard.fleet.wait(release.stdout.strip())

    assert yard.start() != first, "it has ended"


def test_the_failed_tags_of_a_backfill_are_tried_again_without_a_list(yard: Yard) -> None:
    yard.source.on_request = denying("/manifests/1.3")
    run = yard.start()
    assert yard.fleet.wait(run).states == {"updated": TAGS - 1, "failed": 1}
    yard.source.on_request = None
    yard.source.forget_requests()

    done = yard.fleet.sealift("retry", run, "--failed", "--json")
    again = json.loads(done.stdout)["runs"][0]
    nothing = yard.fleet.sealift("retry", str(again["run"]), "--failed")

    assert (done.returncode, again["states"], again["lane"]) == (0, {"updated": 1}, "backfill"), done.stderr
    assert yard.asked() == {"1.3": 1}
    assert (nothing.returncode, nothing.stdout) == (
        0,
        f"Nothing to do: no tag of run {again['run']} failed.\n",
    )


def denying(path: str) -> Callable[[str, str], None]:
    def deny(_: str, asked: str) -> None:
        if asked.endswith(path):
            raise ErrorReply(403, "DENIED", "not this one")

    return deny


def test_every_outcome_of_a_run_is_reported_row_by_row(yard: Yard) -> None:
    run = yard.start()
    yard.fleet.wait(run)

    rows = list(csv.DictReader(io.StringIO(yard.fleet.sealift("report", run, "--csv").stdout)))
    objects = [json.loads(line) for line in yard.fleet.sealift("report", run).stdout.splitlines()]

    assert {row["tag"] for row in rows} == {f"1.{number}" for number in range(TAGS)}
    assert {(row["target"], row["region"], row["state"]) for row in rows} == {
        (f"{yard.target.host}/app", "eu", "updated")
    }
    assert [
        {name: "" if value is None else str(value) for name, value in one.items()} for one in objects
    ] == rows


def test_a_report_that_nobody_reads_to_its_end_is_no_failure(yard: Yard) -> None:
    run = yard.start()
    yard.fleet.wait(run)

    with yard.fleet.typed("report", run) as command:
        assert command.stdout
        assert command.stderr
        command.stdout.close()
        said = command.stderr.read()

    assert (command.returncode, said) == (0, "")


def test_a_run_that_has_ended_can_be_neither_paused_nor_resumed(yard: Yard) -> None:
    run = yard.start()
    yard.fleet.wait(run)

    for words in (("pause", run), ("resume", run), ("backfill", "--resume", run)):
        said = yard.fleet.sealift(*words)
        assert said.returncode == 2
        assert f"run {run} has ended (done): `sealift retry {run}` tries again what failed" in said.stderr

    wrong = yard.fleet.sealift("backfill", "app", "--resume", run)
    assert (wrong.returncode, "it takes no MIRROR" in wrong.stderr) == (2, True)
