"""``probe``: how each region reaches the registries of its mirrors, measured now or as it was last."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.lists import hosts_of as hosts_of_specs
from workers.cli.mirroring import named_specs
from workers.cli.session import Session
from workers.cli.specs import check_region
from workers.cli.text import duration, listed, size

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.probes import Availability, Place, Reach

TIMEOUT_S = 120.0
LOOK_S = 0.1
_COLUMNS = ("REGION", "REGISTRY", "STATE", "GREETING", "TOKEN", "HEAD", "FIRST BYTE", "SPEED", "24 H", "NOTE")


@dataclass(frozen=True, slots=True)
class _Row:
    reach: Reach
    known: Availability
    left_out: str
    """Why it was not asked this time; empty: it was."""

    @property
    def is_failed(self) -> bool:
        """Whether it was asked and is not up."""
        return not self.left_out and self.reach.standing != "up"

    @property
    def state(self) -> str:
        """As for programs, but for the first failure of what is not known to be down."""
        last = self.reach.last
        is_failing = self.reach.standing == "unknown" and self.reach.fresh and last and not last.up
        return "failing" if is_failing else self.reach.standing

    def document(self) -> dict[str, Any]:
        return {
            **self.reach.document(),
            "day_share": self.known.day_share,
            "days": [{"began_s": day.began_s, "share": day.share} for day in self.known.days],
            "left_out": self.left_out or None,
        }


def probe(
    context: typer.Context,
    *,
    mirrors: Annotated[
        list[str] | None, typer.Argument(metavar="[MIRROR]...", help="Only their registries; none: all.")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", "-r", metavar="REGION", help="Only from there. Repeatable."),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Measure nothing; show what was measured last.")
    ] = False,
    timeout: options.Timeout = TIMEOUT_S,
    json: options.Json = False,
) -> Exit:
    """Measure how each region reaches the registries of its mirrors; ends with 1 where one is not up.

    The workers of the region ask: for the API, a token, a manifest by HEAD, and the first MBs of a layer. No
    pull that counts is made, unless the fleet file allows it. Of each region the best registry comes first.

    - `sealift probe`
    - `sealift probe explorer --region eu`
    - `sealift probe --last --json`
    """
    session = Session.of(context)
    session.console.json = json
    specs = named_specs(session, mirrors or [])
    served = list(dict.fromkeys(one for spec in specs for one in spec.regions))
    regions = _regions(served, region or [])
    names = [spec.name for spec in specs] if mirrors else []
    if last and session.is_fresh:
        _show(session, [])
        return Exit.DONE
    if not (last or session.finds_fleet):
        session.check_fleet(hosts_of_specs(specs))
    with engine(session, [] if last else regions, workers=not last) as fleet:
        left_out = {} if last else _measure(fleet, regions, names, timeout)
        rows = _rows(session, fleet.rt.ledger, regions, names, left_out)
    _show(session, rows)
    return Exit.FAILED if not last and any(row.is_failed for row in rows) else Exit.DONE


def _regions(served: Sequence[str], wanted: Sequence[str]) -> list[str]:
    for name in wanted:
        if check_region(name) not in served:
            at = f"there is: {listed(list(served))}"
            raise Stop(f"no mirror has a target in region {name!r}; {at}", Exit.USAGE)
    return list(dict.fromkeys(wanted or served))


def _measure(
    fleet: Engine, regions: Sequence[str], mirrors: Sequence[str], timeout_s: float | None
) -> dict[Place, str]:
    """Have every region probe; by region and registry why it was not asked."""
    from tasks import canvas

    fleet.need(regions, wait=True)
    probes, name = fleet.rt.ledger.probes, f"by-hand-{secrets.token_hex(6)}"
    for region in regions:
        canvas.send_probe(region, name, mirrors)
    fleet.session.console.say(f"probing from {listed(list(regions))}")
    began = monotonic()
    while True:
        ended = probes.ended(name)
        if lacking := [region for region in regions if region not in ended]:
            if timeout_s is not None and monotonic() - began > timeout_s:
                after = duration(timeout_s)
                raise Stop(
                    f"no answer from {listed(lacking)} after {after}; are its workers busy?", Exit.UNFINISHED
                )
            fleet.tick()
            Event().wait(LOOK_S)
            continue
        return {(region, host): why for region, left_out in ended.items() for host, why in left_out.items()}


def _rows(
    session: Session,
    ledger: Ledger,
    regions: Sequence[str],
    mirrors: Sequence[str],
    left_out: Mapping[Place, str],
) -> list[_Row]:
    """Region by region, the best first."""
    from mirror.ledger.probes import best_first
    from tasks.passes import hosts_of

    rows: list[_Row] = []
    for region in regions:
        places = [(region, host) for host in hosts_of(session.fleet, region, mirrors)]
        ordered = best_first(ledger.probes.latest(places))
        known = ledger.probes.availability([(region, one.host) for one in ordered])
        rows += [
            _Row(one, spans, left_out.get((region, one.host), ""))
            for one, spans in zip(ordered, known, strict=True)
        ]
    return rows


def _show(session: Session, rows: Sequence[_Row]) -> None:
    console = session.console
    if console.json:
        console.document({"probes": [row.document() for row in rows]})
        return
    if not rows:
        console.result("Nothing was probed yet.")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    for row in rows:
        style = {"up": "green", "down": "red"}.get(row.state, "yellow")
        table.add_row(*(Text(cell, style=style if at == 2 else "") for at, cell in enumerate(_cells(row))))
    console.table(table)
    failed = [row for row in rows if row.is_failed]
    if failed:
        console.say(f"not up: {listed([f'{row.reach.host} from {row.reach.region}' for row in failed])}")


def _cells(row: _Row) -> list[str]:
    reach, last = row.reach, row.reach.last
    times = (last.hello_s, last.token_s, last.head_s, last.first_byte_s) if last else (None,) * 4
    speed = last.bytes_per_second if last else None
    share = row.known.day_share
    note = row.left_out or (reach.reason if reach.standing == "down" else "") or (last.error if last else "")
    return [
        reach.region,
        reach.host,
        row.state,
        *("-" if one is None else f"{one * 1000:.0f} ms" for one in times),
        "-" if speed is None else f"{size(speed)}/s",
        "-" if share is None else f"{100 * share:.0f} %",
        note or ("never probed" if last is None else ""),
    ]
