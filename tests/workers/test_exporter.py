"""The exporter shows what the ledger counts, at the same cost for any number of tags, and outlives Redis."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery, signals
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from config.fleet import parse_fleet
from config.settings import Settings
from mirror.ledger.accounts import RegionBatch
from mirror.ledger.batches import Outcome, Placing, Resolved
from mirror.ledger.budgets import Answered, BudgetReport
from mirror.ledger.content import Done, Memory
from mirror.ledger.gauges import Facts, OpenRun
from mirror.ledger.keys import Client
from mirror.ledger.totals import LAG, LAG_MS, Told, Total, series
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from registry.ratelimits import RateLimits
from tasks import canvas
from tasks.broker import WrongBroker
from tasks.configuration import celery_configuration
from tasks.runtime import Runtime, compose
from tasks.watched import say_when_sent
from tests.support.process import Process
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from workers import exporter, metrics
from workers.cli import main
from workers.exporter import Ledgers, serving

FLEET = """\
webhooks: [{name: hub, kind: dockerhub, secret: env:HUB_SECRET}]
registries:
  docker.io: {}
mirrors:
  - name: app
    source: docker.io/library/app
    targets: [{region: eu, repository: eu.example/app}, {region: us, repository: us.example/app}]
notify:
  - {name: team, to: "json://127.0.0.1:1/", on: [failed, conflict]}
"""
EU, US = "eu.example/app", "us.example/app"
SPEC = MirrorSpec("app", "docker.io/library/app", (Target(EU, "eu"), Target(US, "us")))
AT = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)
BATCH = 20
Shown = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""By (name, labels)."""


@pytest.fixture
def rt(valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    (tmp_path / "sealift.yaml").write_text(FLEET)
    monkeypatch.setenv("SEALIFT_FLEET_FILE", str(tmp_path / "sealift.yaml"))
    monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
    made = compose(Settings())
    yield made
    made.close()
    made.client.close()


@contextmanager
def served(compose: Callable[[], Runtime]) -> Iterator[str]:
    """An exporter at work; where."""
    with serving("127.0.0.1", 0, Ledgers(compose, "1.2.3")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def parsed(text: str) -> Shown:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(shown: Shown, name: str, **labels: str) -> float:
    return shown[name, tuple(sorted(labels.items()))]


def collected(rt: Runtime) -> list[Metric]:
    return list(Ledgers(lambda: rt, "1.2.3").collect())


def busy(rt: Runtime, batches: int = 1) -> str:
    """A fleet of which there is something to say about everything; the run that is under way."""
    ledger, now = rt.ledger, rt.ledger.now()
    run = ledger.create_run(SPEC, "backfill")
    names = [[f"{number}.{tag}" for tag in range(BATCH)] for number in range(batches + 1)]
    ledger.add_batches(run, "", "", [[(tag, tag) for tag in tags] for tags in names], listed=True)
    ledger.open_window(run, batches + 1)
    for number, tags in enumerate(names[:-1]):
        batch = f"{run}.{number}"
        ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT, at=now - 40) for tag in tags])
        ledger.batches.record(batch, {(tag, place): Outcome("updated") for tag in tags for place in (EU, US)})
        done = Done(EU, Placing("copied"), 1000)
        account = RegionBatch(batch, "eu")
        ledger.content.saw(
            "eu.example", "app", digest_of(batch.encode()), Memory(), "uploaded", account, done
        )
        done = Done(EU, Placing("mounted"), 500)
        ledger.content.saw("eu.example", "app", digest_of(b"other"), Memory(), "there", account, done)
        ledger.batches.conclude(batch, "resolving", SPEC)
    ended = ledger.create_run(SPEC, "release")
    ledger.fail_run(ended, "no such repository", "NotFound")
    limits = RateLimits(100, 76, 21600, "203.0.113.7")
    said = Answered("docker.io", "203.0.113.7", "", None, 0.0, may_count=False, limits=limits)
    ledger.budgets.answered(said)
    ledger.budgets.pause("eu.example", "", 7200)
    ledger.park(f"{run}.{batches}", "resolving", now + 3600)
    rt.client.hset(ledger.keys.conflicted, "app", "1")
    rt.client.hset(ledger.keys.conflicts("app"), "v1", "{}")
    ledger.beat("eu", "eu@one")
    assert ledger.schedules.lead()
    for status in (200, 503):
        ledger.traffic.met("docker.io", "GET", "manifest", status)
    ledger.traffic._met["met\nregistry=docker.io\nfared=success"] -= 1  # so that they are a moment apart
    ledger.traffic.flush()
    return run


def enqueue(rt: Runtime, url: str, run: str, region: str) -> None:
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_configuration(rt.settings, url, ["eu", "us"]))
    with app.connection_for_write():
        sent = canvas.haul(rt.ledger, f"{run}.1", region, f"sha256:{'a' * 64}")
        signals.before_task_publish.connect(say_when_sent)
        app.send_task(str(sent.task), sent.args, **sent.options)
        signals.before_task_publish.disconnect(say_when_sent)
    app.close()


def test_everything_that_is_named_is_shown_and_nothing_else(rt: Runtime) -> None:
    busy(rt)
    verify = rt.ledger.create_run(replace(SPEC, kind="verify"), "backfill")
    rt.ledger.add_batches(verify, "", "", [], listed=True)

    with served(lambda: rt) as url:
        status, text = get(f"{url}/metrics")

    assert status == 200
    assert {name for name, _ in parsed(text)} == metrics.names()
    helps = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    types = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert helps == types


def test_what_is_shown_is_what_was_counted(rt: Runtime) -> None:
    busy(rt, batches=2)
    shown = parsed_of(rt)

    assert value(shown, "sealift_redis_up") == 1
    assert value(shown, "sealift_build_info", version="1.2.3") == 1
    for region in ("eu", "us"):
        assert value(shown, "sealift_tags_total", mirror="app", region=region, state="updated") == 2 * BATCH
        assert value(shown, "sealift_tags_total", mirror="app", region=region, state="failed") == 0
    assert value(shown, "sealift_blobs_total", region="eu", outcome="copied") == 2
    assert value(shown, "sealift_blobs_total", region="us", outcome="failed") == 0
    assert value(shown, "sealift_copied_bytes_total", region="eu", registry="eu.example") == 2000
    assert value(shown, "sealift_saved_bytes_total", region="eu", how="mounted") == 1000
    assert value(shown, "sealift_runs_started_total", mirror="app", lane="backfill") == 1
    assert value(shown, "sealift_runs_ended_total", mirror="app", lane="release", state="failed") == 1
    assert value(shown, "sealift_runs_open", mirror="app", lane="backfill", state="active") == 1
    oldest = "sealift_oldest_run_started_timestamp_seconds"
    began = value(shown, oldest, mirror="app", lane="backfill", state="active")
    assert abs(began - rt.ledger.now()) < 60
    assert value(shown, "sealift_parked") == 1
    assert abs(value(shown, "sealift_beat_last_seen_timestamp_seconds") - rt.ledger.now()) < 60


def test_how_receivers_fare_is_shown_by_their_names(rt: Runtime) -> None:
    def failing() -> float:
        return value(parsed_of(rt), "sealift_receiver_failing_since_timestamp_seconds", receiver="team")

    assert failing() == 0, "nobody has met it"
    rt.ledger.totals.admit({"receiver": ["team"]})
    rt.ledger.receivers.meet(["team"])
    met = rt.ledger.receivers.standing("team")
    assert met
    sent = series("notifications", receiver="team", event="failed", outcome="sent")
    assert rt.ledger.receivers.put("team", met, replace(met, failing_s=1234.5), {sent: 3})

    assert failing() == 1234.5
    shown, name = parsed_of(rt), "sealift_notifications_total"
    assert value(shown, name, receiver="team", event="failed", outcome="sent") == 3
    assert value(shown, name, receiver="team", event="conflict", outcome="sent") == 0
    assert (name, (("event", "budget"), ("outcome", "sent"), ("receiver", "team"))) not in shown


def test_a_paused_run_does_not_make_an_active_one_older() -> None:
    facts = Facts(1000.0, Told(named={("mirror", "app")}))
    facts.runs = [OpenRun("app", "backfill", "paused", 10.0), OpenRun("app", "backfill", "active", 900.0)]

    shown = families_of(metrics.Scraped(facts, queues=[], budgets=[], memory=None))

    began = "sealift_oldest_run_started_timestamp_seconds"
    assert value(shown, began, mirror="app", lane="backfill", state="active") == 900
    assert value(shown, began, mirror="app", lane="backfill", state="paused") == 10


def test_the_lag_of_tags_is_a_histogram(rt: Runtime) -> None:
    busy(rt)
    shown = parsed_of(rt)

    def below(le: str) -> float:
        return value(shown, "sealift_tag_lag_seconds_bucket", mirror="app", lane="backfill", le=le)

    assert (below("30.0"), below("600.0"), below("+Inf")) == (0, BATCH, BATCH)
    assert value(shown, "sealift_tag_lag_seconds_count", mirror="app", lane="backfill") == BATCH
    assert value(shown, "sealift_tag_lag_seconds_sum", mirror="app", lane="backfill") >= 40 * BATCH


def test_registries_are_shown_as_workers_met_them(rt: Runtime) -> None:
    busy(rt)
    shown, now = parsed_of(rt), rt.ledger.now()

    assert value(shown, "sealift_registry_up", registry="docker.io") == 0, "what came last was a 503"
    met = {"registry": "docker.io", "method": "GET", "kind": "manifest"}
    assert value(shown, "sealift_registry_requests_total", **met, status="2xx") == 1
    assert value(shown, "sealift_registry_requests_total", **met, status="5xx") == 1
    assert value(shown, "sealift_budget_remaining_pulls", registry="docker.io") == 76
    assert value(shown, "sealift_budget_limit_pulls", registry="docker.io") == 100
    assert value(shown, "sealift_budget_reset_timestamp_seconds", registry="docker.io") > now
    paused = value(shown, "sealift_registry_paused_until_timestamp_seconds", registry="eu.example")
    assert 7000 < paused - now < 7300


def test_a_window_that_is_over_and_an_account_that_has_plenty_hide_no_empty_budget() -> None:
    facts = Facts(1000.0, Told(named={("registry", "docker.io")}))
    budgets = [
        BudgetReport("docker.io", "over", limit=100, remaining=100, until_s=900.0),
        BudgetReport("docker.io", "plenty", limit=200, remaining=200, until_s=1500.0),
        BudgetReport("docker.io", "empty", limit=100, remaining=6, under_way=2, until_s=2000.0),
        BudgetReport("other.example", "over", limit=100, remaining=0, until_s=900.0),
    ]

    shown = families_of(metrics.Scraped(facts, queues=[], budgets=budgets, memory=None))

    said = {name: number for (name, _), number in shown.items() if name.startswith("sealift_budget_")}
    assert said == {
        "sealift_budget_limit_pulls": 100,
        "sealift_budget_remaining_pulls": 4,
        "sealift_budget_reset_timestamp_seconds": 2000,
    }


def test_queues_are_shown_by_lane_with_the_age_of_what_waits_longest(
    rt: Runtime, valkey: ValkeyServer
) -> None:
    run = busy(rt)
    before = int(time.time())
    for _ in range(3):
        enqueue(rt, valkey.url, run, "eu")
    with valkey.client() as client:
        client.hset("sealift:unacked:us", mapping={"1": "x", "2": "y"})

    shown = parsed_of(rt)

    assert value(shown, "sealift_queue_messages", queue="eu", lane="backfill") == 3
    assert value(shown, "sealift_queue_messages", queue="eu", lane="release") == 0
    assert value(shown, "sealift_queue_messages", queue="control", lane="first") == 0
    age = value(shown, "sealift_queue_oldest_message_age_seconds", queue="eu")
    assert 0 <= age <= rt.ledger.now() - before + 1
    assert value(shown, "sealift_queue_oldest_message_age_seconds", queue="us") == 0
    assert value(shown, "sealift_queue_unacknowledged_messages", queue="us") == 2
    assert value(shown, "sealift_workers", region="eu") == 1
    assert value(shown, "sealift_workers", region="us") == 0, "a region of the fleet file has none"


def test_conflicts_are_counted_by_mirror_and_start_at_none(valkey: ValkeyServer, rt: Runtime) -> None:
    text = "mirrors:\n  - {name: both, mode: two_way, targets: [a.example/x, b.example/x]}\n"
    two_way = replace(rt, fleet=parse_fleet(text))
    rt.ledger.totals.admit({"mirror": ["both"]})
    assert value(parsed_of(two_way), "sealift_conflicts_open", mirror="both") == 0

    with valkey.client() as client:
        client.hset(rt.ledger.keys.conflicted, "both", "1")
        client.hset(rt.ledger.keys.conflicts("both"), mapping={"v1": "{}", "v2": "{}"})

    assert value(parsed_of(two_way), "sealift_conflicts_open", mirror="both") == 2


def test_a_region_that_was_given_up_is_shown_for_as_long_as_it_has_messages(
    rt: Runtime, valkey: ValkeyServer
) -> None:
    rt.ledger.totals.admit({"region": ["ap"]})
    with valkey.client() as client:
        client.hset("sealift:unacked:ap", "1", "x")
        shown = parsed_of(rt)
        assert value(shown, "sealift_workers", region="ap") == 0
        assert value(shown, "sealift_queue_unacknowledged_messages", queue="ap") == 1

        client.delete("sealift:unacked:ap")
        assert not [labels for _, labels in parsed_of(rt) if "ap" in dict(labels).values()]


def test_a_scrape_costs_as_many_commands_for_many_tags_as_for_few_and_never_scans(
    rt: Runtime, valkey: ValkeyServer
) -> None:
    costs = []
    with valkey.client() as client:
        for batches in (1, 100):
            rt.ledger.cancel_run(busy(rt, batches))
            asked = calls(client)
            exporter.scrape(rt)
            after = calls(client)
            costs.append({name: n - asked.get(name, 0) for name, n in after.items() if n != asked.get(name)})
    few, many = costs
    few.pop("info")
    many.pop("info")
    assert few == many
    assert sum(few.values()) <= 45
    assert not {"scan", "keys", "hscan", "smembers", "hset", "zremrangebyscore"} & set(few)


def test_each_total_is_looked_at_a_few_times_however_many_mirrors_there_are() -> None:
    few, many = looks_at_totals_of(25), looks_at_totals_of(100)

    assert few > 0
    assert many == 4 * few


class Watched(dict[str, str]):
    """Labels that count how often they are looked at."""

    looks = 0

    def __getitem__(self, name: str) -> str:
        Watched.looks += 1
        return super().__getitem__(name)

    def __eq__(self, other: object) -> bool:
        Watched.looks += 1
        return super().__eq__(other)

    __hash__ = None


def looks_at_totals_of(mirrors: int) -> int:
    told, zeros = Told(), list[Total]()
    for number in range(mirrors):
        own = {"mirror": f"m{number}", "lane": "release"}
        told.totals.setdefault(LAG_MS, []).append(Total(LAG_MS, Watched(own), 1000))
        told.totals.setdefault(LAG, []).append(Total(LAG, Watched(own, le="60"), 1))
        tags = {"mirror": f"m{number}", "region": "eu", "state": "updated"}
        told.totals.setdefault("tags", []).append(Total("tags", Watched(tags), 1))
        zeros += [Total("tags", Watched(tags, state=state), 0) for state in ("updated", "failed")]
    before = Watched.looks
    shown = list(metrics.families(metrics.Scraped(Facts(0.0, told), [], [], None, zeros=zeros), "1.2.3"))
    tags_shown = next(one for one in shown if one.name == "sealift_tags")
    assert len(tags_shown.samples) == 2 * mirrors
    return Watched.looks - before


def calls(client: Client) -> dict[str, int]:
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}


def test_a_user_who_may_only_read_is_enough(rt: Runtime, valkey: ValkeyServer) -> None:
    busy(rt)
    rules = ["~sealift:*", "+@read", "+ping", "+time", "+client|setinfo"]
    admin: Client = rt.client
    admin.execute_command("ACL", "SETUSER", "scraper", "on", ">secret", *rules)
    url = valkey.url.replace("redis://", "redis://scraper:secret@")
    settings = Settings(redis_url=SecretStr(url))
    reader = compose(settings)

    shown = parsed_of(reader)

    assert value(shown, "sealift_blobs_total", region="eu", outcome="copied") == 1
    assert ("sealift_redis_memory_used_bytes", ()) not in shown, "INFO is not for everybody"
    admin.execute_command("ACL", "SETUSER", "scraper", "+info")
    assert value(parsed_of(reader), "sealift_redis_memory_used_bytes") > 0
    reader.client.close()


def test_while_redis_is_away_a_scrape_says_so_and_healthz_does_not_mind(
    rt: Runtime, valkey: ValkeyServer
) -> None:
    busy(rt)
    valkey.kill()

    def impatient() -> Runtime:
        return compose(Settings(), patience_s=1.0)

    with served(impatient) as url:
        status, text = get(f"{url}/metrics")
        assert status == 200
        assert value(parsed(text), "sealift_redis_up") == 0
        assert get(f"{url}/healthz") == (200, "ok\n")
        assert get(f"{url}/elsewhere")[0] == 404

        valkey.restart()
        shown = parsed(get(f"{url}/metrics")[1])
        assert value(shown, "sealift_redis_up") == 1
        assert value(shown, "sealift_blobs_total", region="eu", outcome="copied") == 1


def test_a_server_on_which_no_fleet_can_run_is_said_once_and_is_no_fault_of_a_scrape(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrong() -> Runtime:
        raise WrongBroker("Redis at host:6379 is a cluster")

    with served(wrong) as url:
        answers = [get(f"{url}/metrics") for _ in range(2)]

    assert [status for status, _ in answers] == [200, 200]
    assert value(parsed(answers[-1][1]), "sealift_redis_up") == 0
    assert caplog.messages == ["Redis at host:6379 is a cluster"]


def test_what_goes_wrong_in_a_scrape_is_logged_and_not_printed(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Runtime:
        raise ZeroDivisionError

    with served(broken) as url:
        assert get(f"{url}/metrics")[0] == 500

    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" not in capsys.readouterr().err


def test_a_request_that_breaks_off_is_logged_and_not_printed(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving("127.0.0.1", 0, Ledgers(lambda: pytest.fail("asked"), "1.2.3")) as server:
        try:
            int("no number")
        except ValueError:
            with socket.socket() as request:
                server.handle_error(request, ("192.0.2.1", 1))

    assert "a request of 192.0.2.1 failed" in caplog.text
    assert not capsys.readouterr().err


def test_the_text_is_as_prometheus_wants_it(rt: Runtime) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: `make test-deps` installs it")
    busy(rt)
    with served(lambda: rt) as url:
        text = get(f"{url}/metrics")[1]

    command = [promtool, "check", "metrics"]
    checked = subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def parsed_of(rt: Runtime) -> Shown:
    return shown_by(collected(rt))


def families_of(scraped: metrics.Scraped) -> Shown:
    return shown_by(metrics.families(scraped, "1.2.3"))


def shown_by(families: Iterable[Metric]) -> Shown:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


# -- the command -----------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_stopped(valkey: ValkeyServer, tmp_path: Path) -> None:
    env = {"SEALIFT_REDIS_URL": valkey.url, "SEALIFT_STATE_DIR": str(tmp_path / "state")}
    words = [sys.executable, "-P", "-m", "workers.cli", "exporter", "--host", "127.0.0.1", "--port", "0"]
    with Process(words, tmp_path / "exporter.log", env, tmp_path) as command:
        found = until(lambda: re.search(r"http://\S+/metrics", command.text()), 30, command.tail)
        assert found
        assert value(parsed(get(found[0])[1]), "sealift_redis_up") == 1

        command.signal(signal.SIGTERM)
        until(lambda: not command.running, 30, command.tail)
        assert command.exit_code == 0


def test_that_redis_is_away_is_logged_as_the_fleet_logs(valkey: ValkeyServer, tmp_path: Path) -> None:
    env = {"SEALIFT_REDIS_URL": valkey.url, "SEALIFT_STATE_DIR": str(tmp_path), "SEALIFT_LOG_FORMAT": "json"}
    words = [sys.executable, "-P", "-m", "workers.cli", "exporter", "--host", "127.0.0.1", "--port", "0"]
    with Process(words, tmp_path / "exporter.log", env, tmp_path) as command:
        found = until(lambda: re.search(r"http://\S+/metrics", command.text()), 30, command.tail)
        assert found
        valkey.kill()
        assert value(parsed(get(found[0])[1]), "sealift_redis_up") == 0

        line = json.loads(command.text().splitlines()[-1])
    assert (line["level"], line["logger"]) == ("warning", "workers.exporter")
    assert line["event"].startswith("Redis does not answer")


def test_a_port_that_is_taken_is_one_line(
    valkey: ValkeyServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["exporter", "--host", "127.0.0.1", "--port", str(port)]) == 3

    said = capsys.readouterr().err
    assert said.startswith(f"sealift: cannot listen on 127.0.0.1:{port}: "), said
    assert said.count("\n") == 1


def test_an_exporter_without_a_fleet_says_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    assert main(["exporter"]) == 3

    said = capsys.readouterr().err
    assert "SEALIFT_REDIS_URL" in said
    assert said.count("\n") == 1
