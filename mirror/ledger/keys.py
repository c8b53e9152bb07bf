"""The names of every Redis key that holds Sealift's own truth (docs/architecture.md lists them)."""

from __future__ import annotations

from typing import Any

Client = Any
"""A ``redis.Redis`` that decodes no replies. redis-py types each reply as a union over all its modes; the
ledger's own methods state the types instead."""


class Keys:
    """Key names below one fleet's prefix."""

    def __init__(self, prefix: str) -> None:
        self.root = f"{prefix}ledger:"
        self.runs = f"{self.root}runs"
        self.open = f"{self.root}open"
        self.parked = f"{self.root}parked"
        self.generation = f"{self.root}generation"
        self.workers = f"{self.root}workers"
        self.known = f"{self.root}known"
        self.budgets = f"{self.root}budgets"
        self.beat = f"{self.root}beat"
        self.beat_seen = f"{self.root}beat-seen"
        self.scheduled = f"{self.root}scheduled"
        self.pins = f"{self.root}pins"
        self.totals = f"{self.root}totals"
        self.underway = f"{self.root}underway"
        self.read = f"{self.root}read"
        self.confirmed = f"{self.root}confirmed"
        self.conflicted = f"{self.root}conflicted"
        self.events = f"{self.root}events"
        self.events_counted = f"{self.events}-counted"
        self.receivers = f"{self.root}receivers"
        self.probed = f"{self.root}probed"
        self.probe_slots = f"{self.root}probe-slots"
        self.samples = f"{self.root}samples"
        self.standing = f"{self.root}standing"
        self.outages = f"{self.root}outages"

    @property
    def run_root(self) -> str:
        return f"{self.root}run:"

    def run(self, run: str) -> str:
        return f"{self.run_root}{run}"

    def alike(self, terms: str) -> str:
        return f"{self.root}alike:{terms}"

    def queue(self, run: str) -> str:
        return f"{self.root}run:{run}:queue"

    def listing(self, run: str) -> str:
        return f"{self.root}run:{run}:listing"

    def flight(self, run: str) -> str:
        return f"{self.root}run:{run}:flight"

    def behind(self, run: str) -> str:
        return f"{self.root}run:{run}:behind"

    def progress(self, run: str) -> str:
        return f"{self.root}run:{run}:progress"

    def failures(self, run: str) -> str:
        return f"{self.root}run:{run}:failures"

    def extra_tags(self, run: str) -> str:
        return f"{self.root}run:{run}:extra"

    def deep_pass(self, terms: str) -> str:
        return f"{self.root}deep-pass:{terms}"

    def deep_pace(self, run: str) -> str:
        return f"{self.root}run:{run}:deep-pace"

    def empty(self, run: str) -> str:
        return f"{self.root}run:{run}:empty"

    def digest_tags(self, run: str, repository: str) -> str:
        return f"{self.root}run:{run}:digest-tags:{repository}"

    def repositories(self, run: str) -> str:
        return f"{self.root}run:{run}:repositories"

    def flushed(self, process: str) -> str:
        return f"{self.root}flushed:{process}"

    def staged(self, token: str) -> str:
        return f"{self.root}staged:{token}"

    @property
    def batch_root(self) -> str:
        return f"{self.root}batch:"

    def batch(self, batch: str) -> str:
        return f"{self.batch_root}{batch}"

    def tags(self, batch: str) -> str:
        return f"{self.batch_root}{batch}:tags"

    def outcomes(self, batch: str) -> str:
        return f"{self.batch_root}{batch}:outcomes"

    def ended(self, batch: str) -> str:
        return f"{self.batch_root}{batch}:ended"

    def associates(self, batch: str) -> str:
        return f"{self.batch_root}{batch}:associates"

    def due(self, batch: str, region: str) -> str:
        return f"{self.batch_root}{batch}:due:{region}"

    def placed(self, batch: str, region: str) -> str:
        return f"{self.batch_root}{batch}:placed:{region}"

    def manifest(self, digest: str) -> str:
        return f"{self.root}manifest:{digest}"

    def holder(self, host: str, digest: str) -> str:
        return f"{self.root}holder:{host}:{digest}"

    def present(self, host: str, repository: str, digest: str) -> str:
        return f"{self.root}present:{host}/{repository}:{digest}"

    def session(self, host: str, repository: str, digest: str) -> str:
        return f"{self.root}session:{host}/{repository}:{digest}"

    def whole(self, host: str) -> str:
        return f"{self.root}whole:{host}"

    def lease(self, place: str, digest: str) -> str:
        return f"{self.root}lease:{place}:{digest}"

    def newest(self, repository: str) -> str:
        return f"{self.root}newest:{repository}"

    def proved(self, repository: str) -> str:
        return f"{self.root}proved:{repository}"

    def fixed(self, repository: str) -> str:
        return f"{self.root}fixed:{repository}"

    def referrers_api(self, host: str) -> str:
        return f"{self.root}referrers-api:{host}"

    def pulls(self, host: str, source: str) -> str:
        return f"{self.root}pulls:{host}:{source}"

    def pulling(self, host: str, source: str) -> str:
        return f"{self.root}pulling:{host}:{source}"

    def counting(self, host: str) -> str:
        return f"{self.root}counting:{host}"

    def pace(self, host: str) -> str:
        return f"{self.root}pace:{host}"

    def pause(self, host: str, account: str) -> str:
        return f"{self.root}pause:{host}:{account}"

    def pauses(self, host: str, account: str) -> str:
        return f"{self.root}pauses:{host}:{account}"

    def kept(self, repository: str) -> str:
        return f"{self.root}kept:{repository}"

    def kept_manifests(self, digest: str) -> str:
        return f"{self.root}kept-manifests:{digest}"

    def kept_for(self, digest: str) -> str:
        return f"{self.root}kept-for:{digest}"

    def history(self, mirror: str) -> str:
        return f"{self.root}history:{mirror}"

    def gone(self, mirror: str) -> str:
        return f"{self.root}gone:{mirror}"

    def left(self, run: str, mirror: str) -> str:
        return f"{self.root}run:{run}:left:{mirror}"

    def pruned(self, run: str) -> str:
        return f"{self.root}run:{run}:pruned"

    def deletions(self, run: str) -> str:
        return f"{self.root}run:{run}:deletions"

    def agreed(self, mirror: str) -> str:
        return f"{self.root}agreed:{mirror}"

    def deleted(self, mirror: str) -> str:
        return f"{self.root}deleted:{mirror}"

    def conflicts(self, mirror: str) -> str:
        return f"{self.root}conflicts:{mirror}"

    def settled(self, mirror: str) -> str:
        return f"{self.root}settled:{mirror}"

    def schedule(self, mirror: str) -> str:
        return f"{self.root}schedule:{mirror}"

    def misses(self, mirror: str) -> str:
        return f"{self.root}misses:{mirror}"

    def lagging(self, mirror: str) -> str:
        return f"{self.root}lagging:{mirror}"

    def told(self, event: str, subject: str) -> str:
        return f"{self.root}told:{event}:{subject}"

    def failing(self, subject: str) -> str:
        return f"{self.root}failing:{subject}"

    def pushed(self, terms: str) -> str:
        return f"{self.root}pushed:{terms}"

    def delivered(self, webhook: str) -> str:
        return f"{self.root}delivered:{webhook}"

    def probes(self, region: str, host: str) -> str:
        return f"{self.root}probes:{region}:{host}"

    def seen_from(self, host: str) -> str:
        return f"{self.root}seen-from:{host}"

    def probe_pass(self, probe: str) -> str:
        return f"{self.root}probe-pass:{probe}"
