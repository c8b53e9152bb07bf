"""The status of a fleet, read from its ledger: in three exchanges for each BLOCK of mirrors, and ten more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mirror.ledger import Ledger
from mirror.ledger.probes import Place as Probed
from mirror.ledger.standing import Standing
from mirror.report import FoundReport, RunReport
from mirror.spec import MirrorSpec
from mirror.status.incidents import incidents_of
from mirror.status.registries import registries_of
from mirror.status.tags import Said, tags_of
from mirror.status.texts import host_of, place_name, plain
from mirror.status.values import (
    Checked,
    LastRun,
    MirrorStatus,
    OpenRun,
    Place,
    RegistryStatus,
    Role,
    Status,
    TagStatus,
    Verified,
)
from mirror.status.verdict import verdict
from registry.reference import LAYOUT

BLOCK = 100
"""Mirrors that are read at once: bounds memory, here and in Redis."""
NOT_SHOWN = "for a reason that names what is not shown here"


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a fleet the page shows."""

    title: str = "Image mirrors"
    mirrors: tuple[str, ...] = ("*",)
    """Globs about their names."""
    hidden: tuple[str, ...] = ()
    """Globs about hosts."""
    tags: int = 10
    requests_per_minute: Callable[[str], int | None] = field(default=lambda _: None)

    def has_mirror(self, name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in self.mirrors)

    def has_place(self, repository: str) -> bool:
        return not any(fnmatchcase(host_of(repository), glob) for glob in self.hidden)

    def said(self, specs: Sequence[MirrorSpec]) -> Said:
        """How texts about those mirrors are shown: without folders, and not if they name what is hidden."""
        places = {place for spec in specs for place in spec.places}
        hidden = {host_of(place) for place in places if not self.has_place(place)} - {""}
        folders = sorted((place for place in places if place.startswith(LAYOUT)), key=len, reverse=True)

        def said(text: str) -> str:
            for folder in folders:
                path = folder.removeprefix(LAYOUT)
                text = text.replace(folder, place_name(folder)).replace(path, place_name(folder))
            return NOT_SHOWN if any(host in text for host in hidden) else plain(text)

        return said


def compose(ledger: Ledger, specs: Sequence[MirrorSpec], shown: Shown, probed: Sequence[Probed]) -> Status:
    """The page as a value. ``probed``: which region probes which registry. Raises LedgerError."""
    now, own = ledger.now(), [spec for spec in specs if shown.has_mirror(spec.name)]
    places = [place for spec in own for place in spec.places if shown.has_place(place)]
    hosts = sorted({host_of(place) for place in places} - {""})
    asked = [place for place in probed if place[1] in hosts]
    said = shown.said(specs)
    registries = registries_of(ledger, asked, hosts, shown.requests_per_minute, said, now)
    under_way = ledger.standings.open_runs()
    by_host, conflicts = {one.host: one for one in registries}, Counter[str]()
    for name, count in ledger.conflicts.counts().items():  # of a wildcard each repository has its own
        conflicts[name.partition("/")[0]] += count
    mirrors: list[MirrorStatus] = []
    for at in range(0, len(own), BLOCK):
        block = own[at : at + BLOCK]
        standings = ledger.standings.of(block)
        for spec in block:
            page = _Page(spec, shown, shown.said([spec]), by_host, conflicts[spec.name], now)
            mirrors.append(page.mirror(standings[spec.name], under_way.get(spec.name, ())))
    names = {spec.name for spec in own}
    incidents = incidents_of(ledger, names, set(hosts), said)
    return Status(now, plain(shown.title), tuple(mirrors), registries, incidents)


@dataclass(frozen=True, slots=True)
class _Page:
    """One mirror's part."""

    spec: MirrorSpec
    shown: Shown
    said: Said
    registries: dict[str, RegistryStatus]
    conflicts: int
    now: float

    def mirror(self, standing: Standing, open_runs: Sequence[RunReport]) -> MirrorStatus:
        spec = self.spec
        targets = [one.repository for one in spec.targets if self.shown.has_place(one.repository)]
        has_source = not spec.reads_targets and self.shown.has_place(spec.source)
        tags = tags_of(standing, targets, self.said, has_source=has_source)
        places = self._places(standing, tags)
        behind = [one.behind_since for one in tags if one.behind_since is not None]
        hosts = dict.fromkeys(place.host for place in places if place.host)
        down = [host for host in hosts if self.registries[host].standing == "down"]
        state, why = verdict(standing, tags, targets, self.said, down=down, conflicts=self.conflicts)
        mirrored = standing.mirrored
        known = max([len(tags), *(run.tags for run in standing.runs)])
        verified = standing.verified
        return MirrorStatus(
            name=spec.name,
            state=state,
            why=why,
            two_way=spec.two_way,
            places=places,
            tags=tuple(tags[: self.shown.tags]),
            tags_left=max(0, known - self.shown.tags),
            lag_s=max(0.0, self.now - min(behind)) if behind else None,
            platforms=spec.platforms,
            signatures=spec.referrers,
            conflicts=self.conflicts,
            last=self._last(mirrored) if mirrored else None,
            verified=_verified(verified) if verified else None,
            open=tuple(self._open(run) for run in open_runs),
        )

    def _places(self, standing: Standing, tags: Sequence[TagStatus]) -> tuple[Place, ...]:
        spec, example = self.spec, tags[0].tag if tags else ""
        found = {one.repository: one for one in standing.verified.found} if standing.verified else {}
        places = [] if spec.reads_targets else [self._place(spec.source, "", None, example)]
        places += [
            self._place(one.repository, one.region, found.get(one.repository), example)
            for one in spec.targets
        ]
        return tuple(place for place in places if place is not None)

    def _place(self, repository: str, region: str, found: FoundReport | None, example: str) -> Place | None:
        if not self.shown.has_place(repository):
            return None
        checked = (
            Checked(
                found.verified,
                found.missing,
                found.different,
                found.damaged,
                found.behind,
                found.unchecked,
                found.extra,
            )
            if found
            else None
        )
        role: Role = "source" if repository == self.spec.source else "target"
        if self.spec.two_way:
            role = "side"
        pull = _pull(repository, example)
        return Place(place_name(repository), host_of(repository), role, region, pull, checked)

    def _last(self, run: RunReport) -> LastRun:
        failed = run.states.get("failed", 0)
        return LastRun(run.run, run.state, run.started_s, run.finished_s, failed, self.said(run.error))

    def _open(self, run: RunReport) -> OpenRun:
        moved = [region.moved for region in run.regions]
        return OpenRun(
            run.run,
            run.kind,
            run.lane,
            run.started_s,
            run.tags,
            run.tags - run.states.get("pending", 0),
            run.listed,
            sum(region.planned_bytes for region in run.regions),
            sum(one.copied_bytes + one.mounted_bytes + one.present_bytes for one in moved),
            run.is_paused,
            self.said(run.waits),
        )


def _pull(repository: str, example: str) -> str:
    if repository.startswith(LAYOUT):
        return ""
    if repository.endswith("*"):
        rest, _, tag = example.rpartition(":")
        return f"docker pull {repository.removesuffix('*')}{rest or 'NAME'}:{tag or 'TAG'}"
    return f"docker pull {repository}:{example or 'TAG'}"


def _verified(run: RunReport) -> Verified:
    return Verified(run.run, run.finished_s or run.started_s, run.state, run.deep is not None)
