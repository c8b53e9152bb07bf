"""What processes log: an event a line, as JSON or for people, with what it is about as fields and no secret.

Everything goes through the standard library's loggers, so that Celery's and other libraries' lines come out
alike; structlog renders them and keeps the fields that hold while a task runs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import MutableMapping, Sequence
from typing import Any, Literal, TextIO

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars
from structlog.processors import JSONRenderer, TimeStamper
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from registry.redact import RedactingFilter
from tasks.about import fields_of
from tasks.runtime import known_mirror
from workers.processes import REGION_VARIABLE

Format = Literal["text", "json"]
FIELDS = (
    *("run", "batch", "mirror", "region", "tag", "source", "target", "registry", "blob"),
    *("kind", "task", "task_id"),
)
"""What a line may be about. Other things that libraries put into records are left out."""
_ORDER = ("timestamp", "level", "logger", "event", *FIELDS)
_NOISY = ("httpx", "httpcore", "celery.beat", "celery.worker.strategy", "kombu")
_OF_TASKS = ("celery.app.trace", "celery.worker.request")
_SWEEP = "sealift.sweep"

logger = logging.getLogger(__name__)
_Event = MutableMapping[str, Any]


def set_up_logging(level: int | str, log_format: Format, stream: TextIO | None = None) -> None:
    """Have this process log to ``stream`` (unless said: stderr) and nowhere else.

    What it would die of, in any of its threads, is logged too.
    """
    handler = logging.StreamHandler(stream or sys.__stderr__)
    handler.addFilter(RedactingFilter())
    handler.addFilter(_is_news)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _told
    threading.excepthook = _told_of_thread


def begin_task(task: str, args: Sequence[object], task_id: str) -> None:
    """Put what the task is about on every line of this thread, and of those that it hands work to."""
    clear_contextvars()
    bind_contextvars(**fields_of(task, args), task=task, task_id=task_id)


def end_task() -> None:
    clear_contextvars()


def _is_news(record: logging.LogRecord) -> bool:
    """A sweep that went well is none: there is one every few seconds."""
    if record.levelno > logging.INFO or record.name not in _OF_TASKS or logger.isEnabledFor(logging.DEBUG):
        return True
    return _SWEEP not in record.getMessage()


def _formatter(log_format: Format) -> logging.Formatter:
    before = (
        merge_contextvars,
        ExtraAdder(allow=FIELDS),
        add_log_level,
        add_logger_name,
        TimeStamper(fmt="iso", utc=True),
        _of_record,
        _of_process,
    )
    last: Any = JSONRenderer(default=str) if log_format == "json" else _for_people()
    return ProcessorFormatter(
        foreign_pre_chain=before, processors=(ProcessorFormatter.remove_processors_meta, _in_order, last)
    )


def _for_people() -> Any:
    return structlog.dev.ConsoleRenderer(
        colors=False, sort_keys=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )


def _of_record(_logger: object, _name: str, event: _Event) -> _Event:
    """The process, and a traceback as one field: the filter has made a text of it."""
    record: logging.LogRecord = event["_record"]
    event["process"] = record.processName
    if record.exc_text:
        event["exception"] = record.exc_text
    if record.stack_info:
        event["stack"] = event.pop("stack_info", record.stack_info)
    return event


def _of_process(_logger: object, _name: str, event: _Event) -> _Event:
    """Where nothing nearer says it: the worker's region, and the mirror of a run whose terms it knows."""
    region = os.environ.get(REGION_VARIABLE)
    if region:
        event.setdefault("region", region)
    mirror = known_mirror(event["run"]) if "run" in event and "mirror" not in event else None
    if mirror:
        event["mirror"] = mirror
    return event


def _in_order(_logger: object, _name: str, event: _Event) -> _Event:
    return {name: event.pop(name) for name in _ORDER if name in event} | dict(event)


def _told(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logger.critical("the process ends by an error: %s", error, exc_info=(kind, error, trace))


def _told_of_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is None or issubclass(failed.exc_type, SystemExit):
        return
    name = failed.thread.name if failed.thread else "?"
    trace = (failed.exc_type, failed.exc_value, failed.exc_traceback)
    logger.critical("thread %s ends by an error: %s", name, failed.exc_value, exc_info=trace)
