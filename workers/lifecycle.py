"""What a worker does besides its tasks: logs without secrets, says that it lives, leaves in good order."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Celery, bootsteps, signals
from celery.utils.log import LoggingProxy

from config.fleet import Fleet
from config.problems import FleetError
from config.settings import Settings
from mirror.ledger import Ledger, LedgerError
from tasks.about import fields_of
from tasks.broker import BrokerUnreachable, WrongBroker, check, connect
from tasks.canvas import CONTROL_QUEUE
from tasks.poison import end_lost
from tasks.runtime import fleet_of, redis_url, replicas_of, runtime, runtime_if_made
from tasks.schedules import FleetFile
from tasks.watched import names_of, say_when_sent
from workers import heartbeat
from workers.leaving import Departure, obey

BEAT_S = 10.0
CONFIGURATION_FAULT = 3
"""The exit code that commands have for it, too."""
PATIENCE_S = 3.0
"""How long Redis may take to answer a heartbeat: several of these must fit into the supervisor's patience."""

logger = logging.getLogger(__name__)
_heartbeat = heartbeat.Heartbeat(Settings().heartbeat_file)
_stopping = threading.Event()
_news = threading.Event()
"""Set when the heartbeat has something to say before its time."""


class Life(bootsteps.StartStopStep):
    """The part of a worker that begins when its pool has been forked and before Redis is looked for.

    Not earlier: a fork in the middle of a thread's work copies the locks that it holds.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        """``parent`` is the worker."""
        settings = Settings()
        Departure(parent, settings.soft_shutdown_s, _heartbeat).install()
        queues = [queue.name for queue in parent.app.amqp.queues.consume_from.values()]
        regions = [queue for queue in queues if queue != CONTROL_QUEUE] or [CONTROL_QUEUE]
        # Two of a region on one machine have one name: the first to leave must not speak for both.
        arguments = (settings, regions, f"{parent.hostname}:{os.getpid()}")
        threading.Thread(target=_keep_known, args=arguments, name="heartbeat", daemon=True).start()


def connect_to(app: Celery) -> None:
    """Hook into Celery's signals and the app's workers; called once, by the app."""
    app.steps["worker"].add(Life)
    longest_s = float(Settings().visibility_timeout_s)
    app.steps["consumer"].add(heartbeat.consumer_step(_heartbeat, longest_s))
    signals.setup_logging.connect(_set_up_logging, weak=False)
    signals.before_task_publish.connect(say_when_sent, weak=False)
    signals.worker_init.connect(_check_broker, weak=False)
    signals.beat_init.connect(_check_broker, weak=False)
    signals.worker_init.connect(_prepare, weak=False)
    signals.worker_ready.connect(_begin, weak=False)
    signals.worker_process_init.connect(_begin_process, weak=False)
    signals.worker_process_shutdown.connect(_end_process, weak=False)
    signals.worker_shutting_down.connect(_end, weak=False)
    signals.task_prerun.connect(_begin_task, weak=False)
    signals.task_postrun.connect(_end_task, weak=False)
    signals.task_failure.connect(_on_failure, weak=False)


def _set_up_logging(loglevel: int | str = "INFO", **_: Any) -> None:
    from workers.logs import set_up_logging  # brings structlog, which a command that sends work does not need

    log_format = Settings().log_format
    set_up_logging(loglevel, log_format)
    if log_format == "json":  # what libraries print is a line of the log, too
        proxy: Any = LoggingProxy(logging.getLogger("printed"), logging.WARNING)
        sys.stdout = sys.stderr = proxy


def _begin_task(sender: Any, task_id: str, args: Sequence[object], **_: Any) -> None:
    from workers.logs import begin_task

    begin_task(sender.name, args, task_id)


def _end_task(**_: Any) -> None:
    from workers.logs import end_task

    end_task()


def _check_broker(**_: Any) -> None:
    """End a process whose Redis will never do; else it would only stumble over each message."""
    settings = Settings()
    try:
        url = redis_url(settings, fleet_of(settings))
        for weakness in check(url, PATIENCE_S, replicas_of(settings, url)):
            logger.warning("%s", weakness)
    except WrongBroker as error:
        print(f"sealift: {error}", file=sys.stderr)  # noqa: T201 - before there are logs
        raise SystemExit(CONFIGURATION_FAULT) from error


def _prepare(**_: Any) -> None:
    _heartbeat.clear()
    importlib.import_module("workers.answers")
    importlib.import_module("registry.connections")  # once, for all processes that the pool forks from here


def _begin(**_: Any) -> None:
    _heartbeat.beat()
    _news.set()


def _begin_process(**_: Any) -> None:
    obey(_release)


def _release() -> None:
    """Let others have at once what this process holds the right to."""
    with suppress(LedgerError, BrokerUnreachable):
        runtime().ledger.content.leases.release_all()
        runtime().ledger.traffic.flush()


def _end_process(**_: Any) -> None:
    made = runtime_if_made()
    if made is not None:
        made.ledger.traffic.flush()


def _keep_known(settings: Settings, regions: list[str], worker: str) -> None:
    """Say in the ledger that the worker lives, but only while its consumer is at work.

    While Redis is away the consumer cannot be: that excuses it, and its file says so. Once Redis answers
    again the consumer has to be back soon, or it is deaf, and its file grows old.

    The names of the fleet file are admitted as well, and again when it has changed.
    """
    ledger: Ledger | None = None
    file, admitted = FleetFile(settings), Fleet()
    while not _stopping.is_set():
        try:
            ledger = ledger or _own_ledger(settings)
            if _heartbeat.is_fresh:
                for region in regions:
                    ledger.beat(region, worker)
            else:
                ledger.ping()
            if (fleet := file.latest()) is not admitted:
                ledger.totals.admit(names_of(fleet))
                ledger.receivers.meet(one.name for one in fleet.notify)
                admitted = fleet
        except FleetError as error:
            logger.warning("%s; the heartbeat tries again in %s s", error, BEAT_S)
        except (BrokerUnreachable, WrongBroker) as error:
            logger.warning("%s; the heartbeat tries again in %s s", error, BEAT_S)
            _excuse()
        except LedgerError as error:
            logger.warning("Redis does not answer (%s); the heartbeat tries again in %s s", error, BEAT_S)
            _excuse()
        _news.wait(BEAT_S)
        _news.clear()
    if ledger:
        with suppress(LedgerError):
            for region in regions:
                ledger.leave(region, worker)


def _excuse() -> None:
    """Redis is away, so the consumer cannot be at work."""
    if not _heartbeat.is_fresh:
        _heartbeat.say("waiting")


def _on_failure(sender: Any, exception: Exception, args: list[str], **_: Any) -> None:
    """In the main process: a task lost its process once too often."""
    if isinstance(exception, WorkerLostError):
        threading.Thread(target=_end_lost, args=(sender.name, list(args)), name="poison", daemon=True).start()


def _end_lost(task: str, args: list[str]) -> None:
    try:
        end_lost(runtime(), task, args)
    except (LedgerError, BrokerUnreachable):
        about = {"task": task, **fields_of(task, args)}
        logger.warning("Redis does not answer; the sweeper comes back to it", extra=about)


def _own_ledger(settings: Settings) -> Ledger:
    """A connection that gives up early: a heartbeat that hangs is none."""
    url = redis_url(settings, fleet_of(settings))
    return Ledger(connect(url, PATIENCE_S), settings.redis_prefix)


def _end(**_: Any) -> None:
    _stopping.set()
    _news.set()
