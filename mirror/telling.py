"""What an operator reads in the logs of what became of tags. Fields travel as ``extra``; values are redacted.

A process that has set up no logging, as a command that people type, shows none of it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from mirror.ledger.failures import MOST_EXAMPLES, common
from mirror.ledger.values import HELD, Resolved
from mirror.report import FOLLOWS, TagReport, TargetReport
from registry.errors import DigestMismatch, Transient
from registry.reference import LAYOUT

logger = logging.getLogger("mirror")
logger.addHandler(logging.NullHandler())


def tell_failed(batch: str, mirror: str, reports: Iterable[TagReport]) -> None:
    """Tags that failed in a target: a line for each reason of the batch, however many failed for it.

    Those that only follow what failed in another target are left out.
    """
    groups: dict[tuple[str, str, str], list[tuple[TagReport, TargetReport]]] = defaultdict(list)
    for report in reports:
        for target in report.targets:
            if target.state == "failed" and not target.reason.startswith(FOLLOWS):
                reason = common(report, target.reason)
                groups[target.repository, target.kind, reason].append((report, target))
    for alike in groups.values():
        _tell_alike(batch, mirror, alike)


def _tell_alike(batch: str, mirror: str, alike: Sequence[tuple[TagReport, TargetReport]]) -> None:
    (first, target), tags = alike[0], [report.tag for report, _ in alike]
    fields = {
        "batch": batch,
        "mirror": mirror,
        "tag": first.tag,
        "source": first.repository,
        "target": target.repository,
        "region": target.region,
        "registry": _registry(target.repository),
        "kind": target.kind,
    }
    if len(tags) == 1:
        logger.warning("tag %s failed in %s: %s", first.tag, target.repository, target.reason, extra=fields)
        return
    told = ", ".join(tags[:MOST_EXAMPLES]) + (", …" if len(tags) > MOST_EXAMPLES else "")
    text = "%d tags (%s) failed in %s, the first of them: %s"
    logger.warning(text, len(tags), told, target.repository, target.reason, extra=fields)


def tell_not_listed(run: str, mirror: str, repository: str, error: Exception) -> None:
    """One repository of many; the others go on."""
    fields = {"run": run, "mirror": mirror, "source": repository, "registry": _registry(repository)}
    text = "%s cannot be listed: %s"
    logger.warning(text, repository, error, extra={**fields, "kind": type(error).__name__})


def tell_left_alone(batch: str, mirror: str, resolved: Iterable[Resolved]) -> None:
    """A line for each tag of a two-way mirror whose conflict is new."""
    for one in resolved:
        if one.kind == HELD and one.merged and not one.merged.since:
            fields = {"batch": batch, "mirror": mirror, "tag": one.tag, "kind": one.merged.kind}
            logger.warning("tag %s is left alone: %s", one.tag, one.reason, extra=fields)


def tell_run_failed(run: str, mirror: str, source: str, error: Exception) -> None:
    fields = {"run": run, "mirror": mirror, "source": source, "registry": _registry(source)}
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


def tell_passed_over(error: DigestMismatch) -> None:
    """A registry sent wrong bytes, and another one may have the right ones."""
    text = "%s; it is not asked for that again just now"
    logger.warning(text, error, extra={"registry": error.end, "kind": type(error).__name__})


def _registry(repository: str) -> str:
    """As metrics call it."""
    return "layout" if repository.startswith(LAYOUT) else repository.partition("/")[0]
