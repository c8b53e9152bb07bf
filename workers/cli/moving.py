"""``move``: everything of one place to another, verified there, and what is ready for ``rewrite``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror.report import RunReport, TagReport
from mirror.spec import MirrorSpec, Verification
from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.lists import hosts_of
from workers.cli.session import Session
from workers.cli.specs import Terms, spec_from
from workers.cli.summary import AUTHENTICATION, FINE
from workers.cli.text import counted

if TYPE_CHECKING:
    from mirror.ledger.sources import Entry

MOST_SHOWN = 40
"""Tags that are not ready and are named; further ones are counted."""


def move(
    context: typer.Context,
    *,
    repositories: Annotated[
        list[str] | None,
        typer.Argument(metavar="REPO", help="Below --from; none: all that are listed there."),
    ] = None,
    source: Annotated[str, typer.Option("--from", metavar="PLACE", help="A registry, or a path of it.")],
    to: Annotated[str, typer.Option("--to", metavar="[REGION=]PLACE", help="Where all of it goes.")],
    tags: options.Tags = None,
    exclude: options.Exclude = None,
    platform: options.Platforms = None,
    deep: Annotated[
        bool, typer.Option("--deep/--no-deep", help="Read and hash every byte at the new place.")
    ] = True,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> Exit:
    """Move house: mirror every repository of a place to another, verify it there, and say what is ready.

    Nothing is deleted at the old place, and it may be typed again until everything is ready.

    - `sealift move --from docker.io/org --to ghcr.io/org`
    - `sealift move explorer api-server --from docker.io/org --to eu=registry.eu.example/org`
    """
    session = Session.of(context)
    session.console.json = json
    terms = Terms(tuple(tags or ("*",)), tuple(exclude or ()), None, tuple(platform or ()))
    spec = _spec(source, to, terms)
    names = _named(spec, repositories or [])
    if not session.finds_fleet:
        session.check_fleet(hosts_of([spec]))
    is_new = session.is_external or session.state.is_new
    with engine(session, spec.regions) as fleet:
        if not is_new:
            fleet.resume()
        fleet.need(spec.regions, wait=True)
        moved = Move(fleet, spec, timeout, deep)
        moved.mirror(names)
        moved.verify()
    return _show(session, moved)


@dataclass
class House:
    """One repository of those that move."""

    repository: str
    new: str
    ready: int = 0
    not_ready: list[tuple[str, str]] = field(default_factory=list)
    """Tag and reason; a repository that could not be listed has no tag."""

    def take(self, tag: TagReport) -> None:
        if tag.state in FINE:
            self.ready += 1
        else:
            self.not_ready.append((tag.tag, tag.reason or tag.state))


@dataclass
class Move:
    """The two runs of a move, and what they found."""

    fleet: Engine
    spec: MirrorSpec
    timeout_s: float | None
    is_deep: bool = True
    runs: list[RunReport] = field(default_factory=list)
    houses: dict[str, House] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    """Of what failed."""

    def mirror(self, names: Sequence[str]) -> None:
        """Bring everything; what did not come is not ready."""
        report = self._run(self.spec, _entries_of(names) if names else None)
        for tag in self._tags(report):
            if tag.state not in FINE:
                self._take(tag)

    def verify(self) -> None:
        """Prove that everything that came is whole, in the region where it is."""
        from tasks.terms import verifying

        came = list(self._came(self.runs[0]))
        terms = verifying(self.spec, Verification(deep=self.is_deep))
        for tag in self._tags(self._run(terms, came)) if came else ():
            self._take(tag)

    @property
    def is_ready(self) -> bool:
        return bool(self.houses) and not any(house.not_ready for house in self.houses.values())

    def _run(self, spec: MirrorSpec, entries: Iterable[Entry] | None) -> RunReport:
        from tasks import producer
        from workers.cli.waiting import wait_for

        started = producer.start_backfill(self.fleet.rt, spec, entries)
        (report,) = wait_for(self.fleet, [started.run], self.timeout_s)
        if report.error:
            code = Exit.AUTHENTICATION if report.error_kind in AUTHENTICATION else Exit.FAILED
            raise Stop(f"run {report.run}: {report.error}", code)
        self.runs.append(report)
        return report

    def _tags(self, report: RunReport) -> Iterator[TagReport]:
        return iter(self.fleet.rt.ledger.tag_reports(report.run))

    def _came(self, report: RunReport) -> Iterator[Entry]:
        from mirror.ledger.sources import Entry

        fine = (tag for tag in self._tags(report) if tag.state in FINE)
        for repository, group in groupby(fine, key=lambda tag: tag.repository):
            yield Entry(repository, tuple((tag.tag, tag.ref or tag.tag) for tag in group))

    def _take(self, tag: TagReport) -> None:
        new = self.spec.of(tag.repository).targets[0].repository
        self.houses.setdefault(tag.repository, House(tag.repository, new)).take(tag)
        self.kinds |= {target.kind for target in tag.targets if target.kind and target.state not in FINE}


def _spec(source: str, to: str, terms: Terms) -> MirrorSpec:
    old, new = (text.removesuffix("/*").rstrip("/") for text in (source, to))
    for option, text in (("--from", old), ("--to", new.rpartition("=")[2])):
        if ":" in text.rpartition("/")[2] and "/" in text:
            raise Stop(f"{option} {text}: a place is meant, without tag or digest; see --tags", Exit.USAGE)
    return spec_from(f"{old}/*", [f"{new}/*"], terms)[0]


def _named(spec: MirrorSpec, names: Sequence[str]) -> list[str]:
    """Repositories in full; they may be written with the place or without. Raises MalformedReference."""
    from registry.reference import Reference

    prefix = spec.source.removesuffix("*")
    found = [name if name.startswith(prefix) else f"{prefix}{name}" for name in names]
    for name in found:
        if Reference.parse(name).bare != Reference.parse(name):
            raise Stop(f"{name}: a repository is meant, without tag or digest; see --tags", Exit.USAGE)
    return found


def _entries_of(names: Sequence[str]) -> list[Entry]:
    from mirror.ledger.sources import Entry

    return [Entry(name) for name in dict.fromkeys(names)]


def _show(session: Session, moved: Move) -> Exit:
    houses = sorted(moved.houses.values(), key=lambda house: house.repository)
    code = _code(moved)
    old, new = (text.removesuffix("/*") for text in (moved.spec.source, moved.spec.targets[0].repository))
    follow = f"sealift rewrite . --map {old}={new}"
    if session.console.json:
        rewrite = follow if moved.is_ready else None
        runs = [report.run for report in moved.runs]
        rows = [_document(house) for house in houses]
        session.console.document(
            {"exit_code": int(code), "runs": runs, "repositories": rows, "rewrite": rewrite}
        )
        return code
    _table(session, houses)
    for line in _reasons(houses):
        session.console.result(line)
    ready = sum(house.ready for house in houses)
    session.console.result(
        f"{counted(ready, 'tag')} of {counted(len(houses), 'repository')} ready: equal at {new}."
    )
    if moved.is_ready:
        session.console.say(f"What uses them follows by `{follow}` (a diff; --write does it)")
    else:
        session.console.say("Type it again for the rest: what is there is not brought again")
    return code


def _code(moved: Move) -> Exit:
    if moved.is_ready:
        return Exit.DONE
    return Exit.AUTHENTICATION if moved.kinds and moved.kinds <= AUTHENTICATION else Exit.FAILED


def _table(session: Session, houses: Sequence[House]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("REPOSITORY", "NEW PLACE", "READY", "NOT READY"):
        table.add_column(name, overflow="fold", justify="right" if "READY" in name else "left")
    for house in houses:
        table.add_row(house.repository, house.new, f"{house.ready:,}", f"{len(house.not_ready):,}")
    session.console.table(table)


def _reasons(houses: Sequence[House]) -> Iterator[str]:
    all_of_them = [(house, *pair) for house in houses for pair in house.not_ready]
    for house, tag, reason in all_of_them[:MOST_SHOWN]:
        name = f"{house.repository}{f':{tag}' if tag else ''}"
        yield reason if reason.startswith(f"{name}: ") else f"{name}: {reason}"
    if more := len(all_of_them) - MOST_SHOWN:
        yield from [f"... and {counted(more, 'further tag')} (--json has them all)"] if more > 0 else []


def _document(house: House) -> dict[str, Any]:
    return {
        "repository": house.repository,
        "new": house.new,
        "ready": house.ready,
        "not_ready": [{"tag": tag, "reason": reason} for tag, reason in house.not_ready],
    }
