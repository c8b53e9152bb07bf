"""What a scrape shows, from values; which metrics there are is in :mod:`workers.families`. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from mirror.ledger.budgets import BudgetReport
from mirror.ledger.gauges import Facts
from mirror.ledger.probes import Reach
from mirror.ledger.totals import LAG, LAG_BOUNDS_S, LAG_MS, OTHER, Told, Total
from tasks.watched import QueueReport
from workers.families import BUILD, COUNTERS, FAILING, GAUGES, TAG_LAG, UP, Family

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
    probes: Sequence[Reach] = ()
    zeros: list[Total] = field(default_factory=list)
    """Totals to be shown before anything was counted: what begins at 1 never rises from 0."""


def names() -> frozenset[str]:
    """Every name that a scrape can show, as expressions use it."""
    lag = {f"{TAG_LAG.name}_{part}" for part in ("bucket", "count", "sum")}
    totals = {f"{one.name}_total" for one in COUNTERS.values()}
    return frozenset({one.name for one in (*GAUGES, UP, BUILD)} | totals | lag)


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
    for family in GAUGES:
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
        | {FAILING: {(name,): since for name, since in scraped.receivers.items()}}
        | _probes(scraped.probes, facts.told)
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


def _probes(probes: Iterable[Reach], told: Told) -> Values:
    values: Values = {f"sealift_probe_{name}": {} for name in ("up", "seconds", "bytes_per_second")}
    values["sealift_probe_last_timestamp_seconds"] = {}
    for one in probes:
        last, key = one.last, (told.shown("region", one.region), told.shown("registry", one.host))
        if last is None:
            continue
        values["sealift_probe_last_timestamp_seconds"][key] = last.at
        if not one.fresh:
            continue
        if one.was_up:
            values["sealift_probe_up"][key] = float(one.standing != "down")
        phases = {
            "api": last.hello_s,
            "token": last.token_s,
            "head": last.head_s,
            "first_byte": last.first_byte_s,
        }
        for phase, seconds in phases.items():
            if seconds is not None:
                values["sealift_probe_seconds"][*key, phase] = seconds
        if last.bytes_per_second is not None:
            values["sealift_probe_bytes_per_second"][key] = last.bytes_per_second
    return values


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
