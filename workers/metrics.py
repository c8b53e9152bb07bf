"""What a scrape shows, from values: names, what each means, and its labels. No I/O.

Names are Prometheus' (base units, ``_total`` for what only grows). Labels are bounded: mirrors, regions and
registries of the fleet file by their names, of all others those that the ledger counts by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from mirror.ledger.budgets import BudgetReport
from mirror.ledger.gauges import Facts
from mirror.ledger.totals import LAG, LAG_BOUNDS_S, LAG_MS, OTHER, Told, Total
from tasks.watched import QueueReport


class Family(NamedTuple):
    """One metric; a counter's name goes without its ``_total``."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


COUNTERS = {
    "runs_started": Family("sealift_runs_started", "Runs that began.", ("mirror", "lane")),
    "runs_ended": Family(
        "sealift_runs_ended", "Runs that ended: done, failed or cancelled.", ("mirror", "lane", "state")
    ),
    "tags": Family(
        "sealift_tags", "Tags in targets by what became of them in a run.", ("mirror", "region", "state")
    ),
    "blobs": Family(
        "sealift_blobs",
        "Blobs in targets: copied, mounted, exists (already there) or failed (at first, at least).",
        ("region", "outcome"),
    ),
    "copied_bytes": Family(
        "sealift_copied_bytes", "Bytes of blobs sent to a target's registry.", ("region", "registry")
    ),
    "saved_bytes": Family(
        "sealift_saved_bytes",
        "Bytes of blobs that were mounted or already there, or read for several targets at once (shared).",
        ("region", "how"),
    ),
    "requests": Family(
        "sealift_registry_requests",
        "Requests to registries by the class of their answer (none: there was none), tokens left out.",
        ("registry", "method", "kind", "status"),
    ),
    "verify": Family(
        "sealift_verify_tags",
        "Tags in targets by what verifying runs found: verified, missing, different, damaged, behind, held, "
        "unchecked.",
        ("mirror", "registry", "result"),
    ),
    "notifications": Family(
        "sealift_notifications",
        "Events by what came of telling a receiver: sent, failed (an attempt), dropped (too old, or lost).",
        ("receiver", "event", "outcome"),
    ),
    "webhooks": Family(
        "sealift_webhooks",
        "Pushes that webhooks told of by what became of them, and deliveries that led to none by why.",
        ("webhook", "result"),
    ),
}
"""By the name of the ledger's total."""
TAG_LAG = Family(
    "sealift_tag_lag_seconds",
    "From when a run asked the source about a tag until it had moved in every target.",
    ("mirror", "lane"),
)
_FAILING = "sealift_receiver_failing_since_timestamp_seconds"
UP = Family("sealift_redis_up", "Whether Redis answered this scrape; if not, little else is shown.")
BUILD = Family("sealift_build_info", "Always 1; the version of the exporter.", ("version",))
_GAUGES = (
    Family("sealift_runs_open", "Runs that have not ended.", ("mirror", "lane", "state")),
    Family(
        "sealift_oldest_run_started_timestamp_seconds",
        "When the oldest run that has not ended began, in Unix time.",
        ("mirror", "lane", "state"),
    ),
    Family("sealift_parked", "Runs and batches that wait in the ledger for a time that is to come."),
    Family("sealift_queue_messages", "Messages that wait.", ("queue", "lane")),
    Family(
        "sealift_queue_unacknowledged_messages",
        "Messages that workers of a region have taken and not finished, of the control queue too.",
        ("queue",),
    ),
    Family(
        "sealift_queue_oldest_message_age_seconds",
        "How long the oldest message has waited; 0: none waits.",
        ("queue",),
    ),
    Family(
        "sealift_registry_up", "Whether what workers last met at a registry was an answer.", ("registry",)
    ),
    Family(
        "sealift_registry_last_success_timestamp_seconds",
        "When a registry last answered, refusals included, in Unix time.",
        ("registry",),
    ),
    Family(
        "sealift_registry_last_failure_timestamp_seconds",
        "When a registry last gave no answer or a 5xx, in Unix time.",
        ("registry",),
    ),
    Family(
        "sealift_registry_paused_until_timestamp_seconds",
        "Until when a registry is left alone after a 429, in Unix time.",
        ("registry",),
    ),
    Family(
        "sealift_budget_limit_pulls",
        "Pulls that a registry allows in a window that is open; of several accounts that with least left.",
        ("registry",),
    ),
    Family(
        "sealift_budget_remaining_pulls",
        "Pulls that a registry still allows, as it said last; those under way are taken off.",
        ("registry",),
    ),
    Family(
        "sealift_budget_reset_timestamp_seconds",
        "When the window of a registry's pulls ends at the latest, in Unix time.",
        ("registry",),
    ),
    Family(
        "sealift_conflicts_open",
        "Tags of a two-way mirror that are left alone until somebody decides.",
        ("mirror",),
    ),
    Family(
        _FAILING,
        "Since when no message reaches a receiver of notifications, in Unix time; 0: all is well.",
        ("receiver",),
    ),
    Family("sealift_workers", "Workers of a region that were heard of in the last minute.", ("region",)),
    Family(
        "sealift_worker_last_heartbeat_timestamp_seconds",
        "When any worker of a region was last heard of, in Unix time.",
        ("region",),
    ),
    Family(
        "sealift_beat_last_seen_timestamp_seconds",
        "When a beat last was the one that sends, in Unix time; nothing: there was never one.",
    ),
    Family(
        "sealift_verify_last_timestamp_seconds",
        "When a run that verified a mirror, all or a sample of it, last came to its end, in Unix time.",
        ("mirror",),
    ),
    Family("sealift_redis_memory_used_bytes", "Memory that Redis holds."),
    Family("sealift_redis_memory_max_bytes", "Memory that Redis may hold; 0: no limit is set."),
)
Values = dict[str, dict[tuple[str, ...], float]]
"""By family, then by the values of its labels."""


@dataclass(slots=True)
class Scraped:
    """What was read for one scrape."""

    facts: Facts
    queues: list[QueueReport]
    budgets: list[BudgetReport]
    memory: tuple[int, int] | None
    """None where it may not be asked for."""
    beat_seen_s: float | None = None
    """None: there was never one."""
    regions: tuple[str, ...] = ()
    """To be shown even if they have no worker."""
    conflicts: Mapping[str, int] = field(default_factory=dict)
    """Tags that are left alone, by the two-way mirror."""
    receivers: Mapping[str, float] = field(default_factory=dict)
    """Since when no message reaches each receiver of notifications, in Unix time; 0: all is well."""
    zeros: list[Total] = field(default_factory=list)
    """Totals to be shown before anything was counted: what begins at 1 never rises from 0."""


def names() -> frozenset[str]:
    """Every name that a scrape can show, as expressions use it."""
    lag = {f"{TAG_LAG.name}_{part}" for part in ("bucket", "count", "sum")}
    totals = {f"{one.name}_total" for one in COUNTERS.values()}
    return frozenset({one.name for one in (*_GAUGES, UP, BUILD)} | totals | lag)


def families(scraped: Scraped | None, version: str) -> Iterator[Metric]:
    """The metrics, each with its help; ``scraped`` None: Redis does not answer."""
    yield _gauge(BUILD, {(version,): 1.0})
    yield _gauge(UP, {(): float(scraped is not None)})
    if scraped is None:
        return
    for name, family in COUNTERS.items():
        yield _counter(family, [*scraped.facts.told.of(name), *_missing(name, scraped)])
    yield _lags(scraped.facts.told)
    values = _values(scraped)
    for family in _GAUGES:
        yield _gauge(family, values.get(family.name, {}))


def _missing(name: str, scraped: Scraped) -> Iterable[Total]:
    known = {frozenset(one.labels.items()) for one in scraped.facts.told.of(name)}
    return (one for one in scraped.zeros if one.name == name and frozenset(one.labels.items()) not in known)


def _counter(family: Family, totals: Iterable[Total]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for one in totals:
        metric.add_metric([one.labels.get(label, "") for label in family.labels], one.value)
    return metric


def _gauge(family: Family, values: Mapping[tuple[str, ...], float]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric


def _lags(told: Told) -> Metric:
    metric = HistogramMetricFamily(TAG_LAG.name, TAG_LAG.help, labels=TAG_LAG.labels)
    found: dict[tuple[str, ...], dict[str, int]] = {_key(one): {} for one in told.of(LAG_MS)}
    for one in told.of(LAG):
        found.setdefault(_key(one), {})[one.labels["le"]] = one.value
    sums = {_key(one): one.value / 1000 for one in told.of(LAG_MS)}
    for key, counted in found.items():
        so_far, buckets = 0, list[tuple[str, float]]()
        for bound in (*map(str, LAG_BOUNDS_S), "+Inf"):
            so_far += counted.get(bound, 0)
            buckets.append((bound if bound == "+Inf" else str(float(bound)), so_far))
        metric.add_metric(key, buckets, sums.get(key, 0.0))
    return metric


def _key(one: Total) -> tuple[str, ...]:
    return tuple(one.labels[label] for label in TAG_LAG.labels)


def _values(scraped: Scraped) -> Values:
    facts, values = scraped.facts, Values()
    values["sealift_parked"] = {(): facts.parked}
    values["sealift_verify_last_timestamp_seconds"] = {
        (one.labels["mirror"],): one.value for one in facts.told.of("verified")
    }
    if scraped.beat_seen_s is not None:
        values["sealift_beat_last_seen_timestamp_seconds"] = {(): scraped.beat_seen_s}
    if scraped.memory is not None:
        used, most = scraped.memory
        values["sealift_redis_memory_used_bytes"] = {(): used}
        values["sealift_redis_memory_max_bytes"] = {(): most}
    return (
        values
        | _runs(facts)
        | _queues(scraped.queues, facts.now_s)
        | _met(facts.told)
        | _budgets(scraped.budgets, facts.told, facts.now_s)
        | _conflicts(scraped.conflicts, facts.told)
        | _workers(facts, scraped.regions)
        | {_FAILING: {(name,): since for name, since in scraped.receivers.items()}}
    )


def _runs(facts: Facts) -> Values:
    count, oldest = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
    for run in facts.runs:
        mirror = facts.told.shown("mirror", run.mirror)
        count[mirror, run.lane, run.state] = count.get((mirror, run.lane, run.state), 0) + 1
        oldest.setdefault((mirror, run.lane, run.state), run.started_s)
    if beyond := facts.runs_open - len(facts.runs):
        count[OTHER, OTHER, OTHER] = beyond
    return {"sealift_runs_open": count, "sealift_oldest_run_started_timestamp_seconds": oldest}


def _queues(queues: Iterable[QueueReport], now_s: float) -> Values:
    return {
        "sealift_queue_messages": {
            (one.queue, lane): number for one in queues for lane, number in one.waiting.items()
        },
        "sealift_queue_unacknowledged_messages": {
            (one.queue,): one.unacknowledged for one in queues if one.unacknowledged is not None
        },
        "sealift_queue_oldest_message_age_seconds": {
            (one.queue,): max(0.0, now_s - one.oldest_s) if one.oldest_s else 0.0 for one in queues
        },
    }


def _met(told: Told) -> Values:
    """A registry is up as long as nothing worse came after its last answer."""
    at: dict[str, dict[tuple[str, ...], float]] = {"success": {}, "failure": {}}
    for one in told.of("met"):
        at[one.labels["fared"]][one.labels["registry"],] = one.value / 1000
    success, failure = at["success"], at["failure"]
    return {
        "sealift_registry_up": {
            key: float(success.get(key, 0.0) >= failure.get(key, 0.0)) for key in success | failure
        },
        "sealift_registry_last_success_timestamp_seconds": success,
        "sealift_registry_last_failure_timestamp_seconds": failure,
    }


def _conflicts(conflicts: Mapping[str, int], told: Told) -> Values:
    count = dict[tuple[str, ...], float]()
    for mirror, number in conflicts.items():
        key = (told.shown("mirror", mirror),)
        count[key] = count.get(key, 0) + number
    return {"sealift_conflicts_open": count}


def _budgets(budgets: Iterable[BudgetReport], told: Told, now_s: float) -> Values:
    """Of several accounts at a registry the one with the least left: where it has none, work waits.

    A window that is over says nothing of what is left.
    """
    names = ("limit_pulls", "remaining_pulls", "reset_timestamp_seconds")
    open_windows = dict[tuple[str, ...], tuple[float, ...]]()
    paused: dict[tuple[str, ...], float] = {}
    for one in budgets:
        key = (told.shown("registry", one.host),)
        if one.paused_until_s is not None:
            paused[key] = max(paused.get(key, 0.0), one.paused_until_s)
        if one.remaining is not None and one.limit and (one.until_s or 0.0) > now_s:
            window = (one.limit, max(0, one.remaining - one.under_way), one.until_s or 0.0)
            open_windows[key] = min(open_windows.get(key, window), window, key=_share_left)
    values: Values = {
        f"sealift_budget_{name}": {key: window[at] for key, window in open_windows.items()}
        for at, name in enumerate(names)
    }
    return {**values, "sealift_registry_paused_until_timestamp_seconds": paused}


def _share_left(window: tuple[float, ...]) -> float:
    limit, left, _ = window
    return left / limit


def _workers(facts: Facts, regions: Iterable[str]) -> Values:
    everywhere = dict.fromkeys((*regions, *facts.workers))
    return {
        "sealift_workers": {(region,): facts.alive(region) for region in everywhere},
        "sealift_worker_last_heartbeat_timestamp_seconds": {
            (region,): max(heard) for region, heard in facts.workers.items()
        },
    }
