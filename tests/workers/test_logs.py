"""What a log's line looks like: for machines and for people, whoever wrote it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mirror.retry import Patience
from mirror.threads import Threads
from registry.errors import Unreachable
from tasks.about import fields_of, fields_of_member
from workers import logs
from workers.processes import REGION_VARIABLE

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the process logged to, how, and on behalf of what."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.delenv(REGION_VARIABLE, raising=False)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], level = before
    root.setLevel(level)
    logs.end_task()


@pytest.fixture
def read() -> Read:
    """The lines so far, each of which must be one JSON object."""
    stream = io.StringIO()
    logs.set_up_logging("INFO", "json", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(text: str) -> None:
    raise ValueError(text)


def test_an_event_is_one_json_object_on_one_line(read: Read) -> None:
    logging.getLogger("some.library").warning("two\nlines of %s", "ümläuts\u2028")
    logging.getLogger("some.library").debug("too fine")

    (line,) = read()
    assert line["event"] == "two\nlines of ümläuts\u2028"
    assert (line["level"], line["logger"], line["process"]) == ("warning", "some.library", "MainProcess")
    assert line["timestamp"].endswith("Z")


def test_a_traceback_is_one_field(read: Read) -> None:
    try:
        fail("no\nsuch thing")
    except ValueError:
        logging.getLogger("tasks").exception("landing failed")

    (line,) = read()
    assert line["event"] == "landing failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no\nsuch thing")


def test_no_secret_is_in_any_part_of_a_line(read: Read) -> None:
    url = "https://user:sesame@proxy.example/path?token=sesame"
    try:
        fail(f"cannot reach {url}")
    except ValueError:
        logging.getLogger("kombu.connection").exception(
            "lost %s", url, extra={"source": url, "headers": {"Authorization": "Basic sesame=="}}
        )

    (line,) = read()
    assert "sesame" not in json.dumps(line)
    assert line["event"] == "lost https://***@proxy.example/path?token=***"
    assert "headers" not in line  # what libraries put into records is no field of ours


def test_lines_within_a_task_say_what_it_is_about(read: Read) -> None:
    logs.begin_task("sealift.land", ["5b14.3", "eu"], "land-5b14.3-eu-77")
    logging.getLogger("celery.app.trace").info("Task succeeded", extra={"data": {"args": "(1,)"}})
    logging.getLogger("mirror").warning("tag failed", extra={"tag": "1.0", "region": "us"})
    logs.end_task()
    logging.getLogger("celery").info("idle")

    about, tag, idle = read()
    expected = {"run": "5b14", "batch": "5b14.3", "region": "eu", "task": "sealift.land"}
    assert expected.items() <= about.items()
    assert "data" not in about
    assert (tag["run"], tag["tag"], tag["region"]) == ("5b14", "1.0", "us")  # what is said nearer goes first
    assert "run" not in idle


def test_a_task_that_follows_inherits_nothing(read: Read) -> None:
    logs.begin_task("sealift.haul", ["5b14.3", "eu", "sha256:aa"], "1")
    logs.begin_task("sealift.sweep", [None], "2")
    logging.getLogger("tasks").info("swept")

    (line,) = read()
    assert not {"run", "batch", "region", "blob"} & line.keys()


def test_a_sweep_that_went_well_is_no_news_unless_one_debugs(read: Read) -> None:
    trace, done = logging.getLogger("celery.app.trace"), "Task %(name)s[%(id)s] succeeded"
    sweep = {"name": "sealift.sweep", "id": "1"}

    trace.info(done, sweep)
    trace.info(done, {"name": "sealift.land", "id": "2"})
    trace.error("Task sealift.sweep[3] raised unexpected")
    assert [line["event"] for line in read()] == [
        "Task sealift.land[2] succeeded",
        "Task sealift.sweep[3] raised unexpected",
    ]

    logging.getLogger().setLevel(logging.DEBUG)
    trace.info(done, sweep)
    assert len(read()) == 3


def test_threads_that_copy_say_for_whom(read: Read) -> None:
    answers = iter([Unreachable("eu.example", "app:1.0", "cut in the middle"), None])

    def exchange() -> None:
        if error := next(answers):
            raise error

    patience = Patience(attempts=2, wait=lambda _: None)
    threads = Threads()
    with threads.lend(1) as crew:
        crew.submit(int).result()  # the thread is older than the task
    logs.begin_task("sealift.land", ["5b14.3", "eu"], "1")
    with threads.lend(1) as crew:
        crew.submit(patience.attempt, exchange).result()

    (line,) = read()
    assert line["event"].startswith("eu.example/app:1.0: cut in the middle; attempt 2 ")
    assert (line["registry"], line["kind"]) == ("eu.example", "Unreachable")
    assert (line["run"], line["batch"], line["region"]) == ("5b14", "5b14.3", "eu")


def test_a_worker_of_a_region_says_which_where_nothing_nearer_does(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REGION_VARIABLE, "eu")
    logging.getLogger("celery").info("ready")
    logging.getLogger("celery").info("landing", extra={"region": "us"})

    assert [line["region"] for line in read()] == ["eu", "us"]


def test_what_kills_a_thread_is_an_event_too(read: Read) -> None:
    thread = threading.Thread(target=fail, args=("lost",), name="copy")
    thread.start()
    thread.join()

    (line,) = read()
    assert (line["level"], line["event"]) == ("critical", "thread copy ends by an error: lost")
    assert line["exception"].endswith("ValueError: lost")


def test_a_warning_of_a_library_is_an_event_too(read: Read) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old and gone", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)

    (line,) = read()
    assert "old and gone" in line["event"]


def test_people_read_the_event_first_and_then_its_fields() -> None:
    stream = io.StringIO()
    logs.set_up_logging("INFO", "text", stream)
    logs.begin_task("sealift.land", ["5b14.3", "eu"], "1")
    try:
        fail("https://user:sesame@proxy.example is away")
    except ValueError:
        logging.getLogger("tasks").exception("landing %s", "failed")

    first, *trace = stream.getvalue().splitlines()
    stamp, rest = first.split(" ", 1)
    assert stamp.endswith("Z")
    assert rest.startswith("[error    ] landing failed [tasks] run=5b14 batch=5b14.3 region=eu")
    assert trace[0].startswith("Traceback")
    assert trace[-1] == "ValueError: https://***@proxy.example is away"


def test_a_command_that_people_type_shows_nothing_of_it() -> None:
    told = "from mirror.telling import *; tell_run_failed('5b14', 'app', 'a.example/app', OSError())"

    done = subprocess.run([sys.executable, "-P", "-c", told], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("task", "args", "fields"),
    [
        ("sealift.enumerate", ["5b14"], {"run": "5b14"}),
        ("sealift.resolve", ["5b14.3"], {"run": "5b14", "batch": "5b14.3"}),
        ("sealift.mirror", ["5b14.3", "eu"], {"run": "5b14", "batch": "5b14.3", "region": "eu"}),
        ("sealift.haul", ["5b14.3", "eu", "sha256:a"],
         {"run": "5b14", "batch": "5b14.3", "region": "eu", "blob": "sha256:a"}),
        ("sealift.sweep", [None], {}),
        ("celery.backend_cleanup", [], {}),
    ],
)  # fmt: skip
def test_what_a_task_is_about_is_in_its_message(
    task: str, args: list[object], fields: dict[str, str]
) -> None:
    assert fields_of(task, args) == fields


def test_a_run_and_a_batch_are_told_apart_by_their_ids() -> None:
    assert fields_of_member("5b14") == {"run": "5b14"}
    assert fields_of_member("5b14.3") == {"run": "5b14", "batch": "5b14.3"}
