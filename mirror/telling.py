"""What an operator reads in the logs of what became of tags. Fields travel as ``extra``; values are redacted.

A process that has set up no logging, as a command that people type, shows none of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from mirror.report import TagReport
from registry.errors import Transient

logger = logging.getLogger("mirror")
logger.addHandler(logging.NullHandler())


def tell_failed(batch: str, mirror: str, reports: Iterable[TagReport]) -> None:
    """A line for each tag that failed in a target."""
    for report in reports:
        for target in report.targets:
            if target.state == "failed":
                fields = {
                    "batch": batch,
                    "mirror": mirror,
                    "tag": report.tag,
                    "source": report.repository,
                    "target": target.repository,
                    "region": target.region,
                    "registry": _host(target.repository),
                    "kind": target.kind,
                }
                text = "tag %s failed in %s: %s"
                logger.warning(text, report.tag, target.repository, target.reason, extra=fields)


def tell_run_failed(run: str, mirror: str, source: str, error: Exception) -> None:
    fields = {"run": run, "mirror": mirror, "source": source, "registry": _host(source)}
    logger.warning("run failed: %s", error, extra={**fields, "kind": type(error).__name__})


def tell_wait(member: str, reason: str, until: float) -> None:
    """A run or a batch waits in the ledger."""
    is_batch = "." in member
    fields = {"run": member.partition(".")[0], **({"batch": member} if is_batch else {})}
    at = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC"
    logger.info("%s waits until %s: %s", "batch" if is_batch else "run", at, reason, extra=fields)


def tell_attempt(error: Transient, attempt: int, pause_s: float) -> None:
    """An exchange failed and is tried again; ``attempt`` counts from 1."""
    text = "%s; attempt %d is made in %.1f s"
    logger.info(
        text, error, attempt + 1, pause_s, extra={"registry": error.end, "kind": type(error).__name__}
    )


def _host(repository: str) -> str:
    return repository.partition("/")[0]
