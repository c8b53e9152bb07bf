"""Which metrics there are: names, what each means, and its labels.

Names are Prometheus' (base units, ``_total`` for what only grows). Labels are bounded: mirrors, regions and
registries of the fleet file by their names, of all others those that the ledger counts by name.
"""

from __future__ import annotations

from typing import NamedTuple


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
FAILING = "sealift_receiver_failing_since_timestamp_seconds"
UP = Family("sealift_redis_up", "Whether Redis answered this scrape; if not, little else is shown.")
BUILD = Family("sealift_build_info", "Always 1; the version of the exporter.", ("version",))
GAUGES = (
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
        "sealift_probe_up",
        "Whether probes of a region find a registry up (0: several in a row did not); nothing: they never "
        "did, or not lately.",
        ("region", "registry"),
    ),
    Family(
        "sealift_probe_seconds",
        "What a region's last probe of a registry took: api (the greeting), token, head, first_byte.",
        ("region", "registry", "phase"),
    ),
    Family(
        "sealift_probe_bytes_per_second",
        "How fast a region's last probe of a registry read a layer.",
        ("region", "registry"),
    ),
    Family(
        "sealift_probe_last_timestamp_seconds",
        "When a region last probed a registry, in Unix time.",
        ("region", "registry"),
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
        FAILING,
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
