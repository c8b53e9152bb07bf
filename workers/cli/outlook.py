"""What lies ahead of a run: how fast it goes, how long that may still take, what its registries allow.

All of it is read off counters: it costs the same for a run of ten tags and of a million.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import time
from typing import TYPE_CHECKING, Any

from mirror.report import RunReport
from workers.cli.text import duration, listed, moment, size

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.budgets import BudgetReport


def hosts_of(ledger: Ledger, reports: Sequence[RunReport]) -> set[str]:
    """The registries that the runs need; nothing is asked that :meth:`Ledger.run_report` has not read."""
    specs = [ledger.spec(report.run) for report in reports]
    names = {name for spec in specs for name in spec.places}
    return {name.partition("/")[0] for name in names}


def done(report: RunReport) -> int:
    """Tags whose batches are concluded."""
    return report.tags - report.states.get("pending", 0)


def tags_per_s(report: RunReport) -> float:
    """Since the run began."""
    took = (report.finished_s or time()) - report.started_s
    return done(report) / took if took > 0 else 0.0


def left_s(report: RunReport, per_s: float) -> float | None:
    """How long the rest takes at that pace; None where that cannot be said."""
    if report.ended or report.is_paused or not report.listed or per_s <= 0:
        return None
    rest = (report.tags - done(report)) / per_s
    return max(rest, (report.waits_until_s or 0.0) - time() if report.waits else 0.0)


def pace_line(report: RunReport) -> str:
    """``So far 1.3 tags/s and 4.2 MB/s; about 12 min are left.``; empty where there is nothing to say."""
    per_s, rest = tags_per_s(report), left_s(report, tags_per_s(report))
    if report.ended or not per_s:
        return ""
    copied = sum(region.moved.copied_bytes for region in report.regions)
    bytes_text = f" and {size(copied / (time() - report.started_s))}/s" if copied else ""
    left = f"; about {duration(rest)} are left" if rest is not None else ""
    return f"So far {tag_rate(per_s)}{bytes_text}{left}."


def tag_rate(per_s: float) -> str:
    """``12 tags/s``, ``0.8 tags/s``, ``5 tags/h``."""
    if per_s >= 0.05:
        return f"{per_s:.1f} tags/s" if per_s < 10 else f"{per_s:.0f} tags/s"
    return f"{per_s * 3600:.0f} tags/h"


def budget_lines(budgets: Sequence[BudgetReport]) -> Iterator[str]:
    """What each registry still allows, and until when it is left alone."""
    for one in budgets:
        by = f" ({one.source})" if one.source else ""
        if one.paused_until_s:
            yield f"{one.host}{by} is left alone until {moment(one.paused_until_s)}."
        else:
            ends = f"; the window ends by {moment(one.until_s)}" if one.until_s else ""
            yield f"{one.host}{by}: {pulls_left(one)}{ends}."


def pulls_left(one: BudgetReport) -> str:
    return f"{one.remaining} of {one.limit} pulls left"


def absent(ledger: Ledger, report: RunReport) -> list[str]:
    """Regions in which the run has something left to do, and which none of the living workers serves."""
    if report.ended or report.rests:
        return []
    alive = ledger.workers.live_regions()
    missing = [one.region for one in report.regions if one.region not in alive]
    if not missing or not alive or not report.listed:
        return missing  # without any worker the steps between regions wait, too
    left = ledger.regions_left(report.run)
    return [region for region in missing if region in left]


def absent_line(missing: Sequence[str]) -> str:
    """Which regions' work waits for a worker; empty where there are some."""
    if not missing:
        return ""
    return (
        f"No worker of {listed(list(missing))} was heard of in the last minute: what is to be done there "
        f"waits for one (`sealift worker --region {missing[0]}`)."
    )


def document(
    report: RunReport, budgets: Sequence[BudgetReport], missing: Sequence[str] = ()
) -> dict[str, Any]:
    """As JSON values."""
    per_s = tags_per_s(report)
    return {
        "tags_per_s": round(per_s, 3),
        "left_s": None if (rest := left_s(report, per_s)) is None else round(rest, 1),
        "budgets": [one.document() for one in budgets],
        "regions_without_workers": list(missing),
    }
