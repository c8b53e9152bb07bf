"""A pass of probes: a region measures how it reaches the registries of its mirrors, in one task."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from celery import shared_task

from config.checks import bytes_of
from config.fleet import Fleet
from config.problems import FleetError
from config.settings import Settings
from mirror.engine import Engine
from mirror.ledger.probes import Measurement
from mirror.ledger.samples import Sample
from mirror.probing import Registries, Subject, probe
from mirror.retry import Patience
from mirror.spec import MirrorSpec, one_of
from mirror.threads import carrying
from registry.errors import Misconfigured, Throttled
from registry.reference import LAYOUT
from tasks.passes import fresh_s, probed
from tasks.runtime import Runtime, connections_of, fleet_of, runtime
from tasks.terms import probes_may_pull
from tasks.watched import specs_of

logger = logging.getLogger(__name__)

AT_WORK = "probe from {}"
"""The place of the lease of whoever probes a registry from a region."""
UNDER_WAY = "pass of probes"
"""The place of the lease of a region's pass: passes that take longer than a slot do not pile up."""
CONNECT_S, READ_S, WHOLE_S = 5.0, 15.0, 30.0
"""A registry that takes longer is none to go by; no probe is to hold a worker's slot for minutes."""
THREADS = 8


@shared_task(name="sealift.probe")
def probe_task(region: str, name: str, mirrors: list[str]) -> None:
    """Measure once what is named ``name``: a slot of the schedule, or what somebody waits for.

    ``mirrors``: only theirs; none: all.
    """
    rt = runtime()
    take(rt, _fleet_now(rt), region, name, mirrors)


def take(rt: Runtime, fleet: Fleet, region: str, name: str, mirrors: Collection[str] = ()) -> None:
    """The pass; one of the schedule only if no later one was sent, and none is under way."""
    one, leases = Pass(rt, fleet, region, name), rt.ledger.content.leases
    if not name.isdecimal():
        one.go(mirrors)
    elif rt.ledger.probes.begin_slot(region, int(name)) and (lease := leases.take(UNDER_WAY, region)):
        try:
            one.go(mirrors)
        finally:
            leases.release(lease)


def _fleet_now(rt: Runtime) -> Fleet:
    """The fleet file as it is; where it is wrong, as this process found it when it began."""
    try:
        return fleet_of(rt.settings)
    except FleetError as error:
        logger.warning("the fleet file is wrong, so what it said before is probed: %s", error)
        return rt.fleet


def _subjects(
    fleet: Fleet, region: str, mirrors: Collection[str], samples: Mapping[str, Sample]
) -> dict[str, Subject]:
    """By host: what to ask it about, an image that it should hold if any is known."""
    found: dict[str, Subject] = {}
    for spec in probed(fleet, region, mirrors):
        for host, subject in _of_mirror(spec, samples.get(spec.name)):
            if host not in found or (found[host].root is None and subject.root):
                found[host] = subject
    return found


def _of_mirror(spec: MirrorSpec, sample: Sample | None) -> Iterator[tuple[str, Subject]]:
    own = one_of(spec, sample.rest) if sample and sample.rest else spec
    for place in own.places:
        if not place.startswith(LAYOUT):
            repository = "" if own.is_wildcard else place
            root = sample.root if sample and repository else None
            yield place.partition("/")[0], Subject(repository, root, own.platforms)


@dataclass(frozen=True, slots=True)
class Pass:
    """One region's way through its registries, several at a time."""

    rt: Runtime
    fleet: Fleet
    region: str
    name: str

    def go(self, mirrors: Collection[str] = ()) -> None:
        """Probe them all. What was measured before a worker is killed is kept, and nothing of the rest."""
        samples = self.rt.ledger.probes.samples.of([spec.name for spec in specs_of(self.fleet)])
        subjects = _subjects(self.fleet, self.region, mirrors, samples)
        connections = connections_of(
            _impatient(self.rt.settings), self.fleet, self.rt.ledger, whole_s=WHOLE_S
        )
        engine = replace(
            self.rt.engine,
            patience=Patience(attempts=1),
            open_repository=connections.open,
            counts_pulls=connections.counts_pulls,
        )
        try:
            with ThreadPoolExecutor(THREADS, thread_name_prefix="probe") as pool:
                look = carrying(self._look)
                told = [pool.submit(look, engine, connections, host, one) for host, one in subjects.items()]
                reasons = [one.result() for one in told]
        finally:
            connections.close()
        left_out = {host: why for host, why in zip(subjects, reasons, strict=True) if why}
        if not self.name.isdecimal():
            self.rt.ledger.probes.end_pass(self.name, self.region, left_out)

    def _look(self, engine: Engine, connections: Registries, host: str, subject: Subject) -> str:
        """Probe one registry and keep what was found; why it was not asked."""
        leases, probes = self.rt.ledger.content.leases, self.rt.ledger.probes
        lease = leases.take(AT_WORK.format(self.region), host)
        if lease is None:
            return "it is being probed just now"
        try:
            if probes.is_recorded(self.region, host, self.name):
                return ""
            rules, pulls = self.fleet.probe, probes_may_pull(self.fleet, host)
            one = probe(engine, connections, self.region, host, subject, bytes_of(rules.bytes), pulls=pulls)
            change = probes.record(one, self.name, fresh_s(self.fleet), rules.failures)
        except Throttled as error:
            return error.reason
        except Misconfigured as error:
            logger.warning("%s is not probed: %s", host, error, extra={"registry": host})
            return str(error)
        finally:
            leases.release(lease)
        if change:
            about = {"registry": host, "region": self.region}
            what = {"registry_down": "is down", "registry_back": "is back"}[change]
            logger.warning("%s %s, as seen from %s%s", host, what, self.region, _because(one), extra=about)
        return ""


def _because(one: Measurement) -> str:
    return f": {one.error}" if one.error else ""


def _impatient(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "connect_timeout_s": min(CONNECT_S, settings.connect_timeout_s),
            "read_timeout_s": min(READ_S, settings.read_timeout_s),
        }
    )
