"""``conflicts`` and ``resolve``: tags of two-way mirrors that are left alone, and a person's decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.history import own_spec
from workers.cli.mirroring import named_specs, see_through, unknown
from workers.cli.session import Session
from workers.cli.summary import by_number
from workers.cli.text import counted, listed, moment

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.conflicts import Conflict
    from mirror.spec import MirrorSpec

MOST_NAMED = 6
_SETTLED = {
    "newest": "the image made last won",
    "prefer": "the preferred side won",
    "resolve": "somebody decided",
    "equal": "the sides became equal",
    "unselected": "the mirror is not about the tag any more",
    "drop": "somebody took it off the list",
}
Found = list[tuple[str, "Conflict"]]
"""With the mirror."""


def conflicts(
    context: typer.Context,
    *,
    mirrors: Annotated[list[str] | None, typer.Argument(metavar="MIRROR", help="Names; none: all.")] = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Those that are over instead, and what was left behind.")
    ] = False,
    json: options.Json = False,
) -> Exit:
    """List tags of two-way mirrors that are left alone: what each side has, and since when.

    - `sealift conflicts explorer`
    - `sealift resolve explorer v1.2 --take ghcr.io` decides one
    """
    session = Session.of(context)
    session.console.json = json
    found: Found = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            _refuse_unknown(session, mirrors or [], fleet.rt.ledger.conflicts.mirrors())
            found = _read(fleet.rt.ledger, mirrors or [], settled=settled)
    else:
        _refuse_unknown(session, mirrors or [], [])
    if json:
        documents = [
            {"mirror": mirror, "in_fleet_file": not _has_left(session, mirror), **asdict(one)}
            for mirror, one in found
        ]
        session.console.document({"conflicts": documents})
    elif found:
        _show(session, found)
    else:
        session.console.result("No conflict is on record." if settled else "No conflict is open.")
    return Exit.DONE


def resolve(
    context: typer.Context,
    *,
    mirror: Annotated[str, typer.Argument(metavar="MIRROR", help="A two-way mirror of the fleet file.")],
    tags: Annotated[list[str], typer.Argument(metavar="TAG", help="Tags that are left alone, or globs.")],
    take: Annotated[
        str,
        typer.Option("--take", metavar="REGISTRY", help="The side that is right: its host or repository."),
    ] = "",
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Only take them off the list, of a mirror that is in the file no more."),
    ] = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Decide about tags that a two-way mirror left alone: all sides get what the one side has.

    What the others had stays on record: `sealift conflicts --settled` shows it.

    - `sealift resolve explorer v1.2 --take ghcr.io`
    - `sealift resolve explorer '*' --take ghcr.io/me/explorer` decides all of them
    - `sealift resolve explorer '*' --drop` after the mirror was taken out of the fleet file
    """
    session = Session.of(context)
    session.console.json = json
    if drop == bool(take):
        raise Stop("say which side is right, --take REGISTRY; or --drop, and nothing is moved", Exit.USAGE)
    if drop:
        return _drop(session, mirror, tags)
    spec = _decidable(session, mirror)
    decided = replace(spec, take=_side(spec, take))

    def start(fleet: Engine) -> list[str]:
        from tasks import producer

        chosen = _chosen(fleet.rt.ledger, mirror, tags)
        fleet.need(spec.regions, wait=not no_wait)
        return [producer.start(fleet.rt, replace(decided, refs=tuple((tag, tag) for tag in chosen)))]

    return see_through(session, spec.regions, start, wait=not no_wait, timeout_s=timeout, everything=all_rows)


def _drop(session: Session, mirror: str, patterns: Sequence[str]) -> Exit:
    """Close what no run will close, because the mirror has none any more."""
    if _is_two_way(session, mirror):
        why = "its next run would list them again"
        raise Stop(f"{mirror} is in the fleet file: {why}; decide with --take REGISTRY", Exit.USAGE)
    if session.is_fresh:
        raise Stop(unknown(mirror, [entry.name for entry in session.fleet.mirrors]), Exit.USAGE)
    with engine(session, workers=False) as fleet:
        ledger = fleet.rt.ledger
        _refuse_unknown(session, [mirror], ledger.conflicts.mirrors())
        chosen = _chosen(ledger, mirror, patterns)
        closed = sorted(ledger.conflicts.close(mirror, set(chosen), "", "drop"), key=by_number)
    if session.console.json:
        session.console.document({"mirror": mirror, "dropped": closed})
    else:
        session.console.result(f"Off the list of {mirror}: {listed(closed)}. Nothing was moved.")
    return Exit.DONE


def _is_two_way(session: Session, mirror: str) -> bool:
    """Whether the fleet file has a two-way mirror of that name, or the wildcard that the name is below."""
    name = mirror.partition("/")[0]
    return any(entry.name == name and entry.mode == "two_way" for entry in session.fleet.mirrors)


def _has_left(session: Session, mirror: str) -> bool:
    """Whether there is a fleet file, and it does not have that two-way mirror."""
    return session.has_fleet_file and not _is_two_way(session, mirror)


def _refuse_unknown(session: Session, names: Sequence[str], recorded: Sequence[str]) -> None:
    """Stop where a mirror is neither in the fleet file nor ever had a conflict."""
    known = [entry.name for entry in session.fleet.mirrors]
    for name in names:
        of_wildcard = (one for one in recorded if one.startswith(f"{name}/"))
        if name.partition("/")[0] not in known and name not in recorded and not any(of_wildcard):
            raise Stop(unknown(name, [*known, *recorded]), Exit.USAGE)


def _decidable(session: Session, name: str) -> MirrorSpec:
    """The mirror of that name, or one of a wildcard's repositories."""
    if "/" not in name:
        (spec,) = named_specs(session, [name])
        if spec.is_wildcard:
            raise Stop(f"{name} is many repositories: name one of them, as in {name}/REPOSITORY", Exit.USAGE)
        return spec
    session.check_fleet()
    found = own_spec(session, name)
    if found is None:
        raise Stop(unknown(name, [entry.name for entry in session.fleet.mirrors]), Exit.USAGE)
    return found


def _side(spec: MirrorSpec, text: str) -> str:
    """The one side that is meant."""
    from tasks.sides import sides_named

    if spec.kind != "two_way":
        raise Stop(f"{spec.name} is no two-way mirror: its source decides", Exit.USAGE)
    sides = [target.repository for target in spec.targets]
    found = sides_named(sides, text)
    if len(found) != 1:
        raise Stop(f"--take {text!r} is not one side of {spec.name}; it has {listed(sides)}", Exit.USAGE)
    return found[0]


def _chosen(ledger: Ledger, mirror: str, patterns: Sequence[str]) -> list[str]:
    """The tags that are meant, of those that are left alone."""
    from mirror.select import Selection

    is_open = {one.tag for one in ledger.conflicts.open(mirror)}
    chosen: set[str] = set()
    for pattern in patterns:
        try:
            kept = Selection((pattern,)).choose(is_open).kept
        except ValueError as error:
            raise Stop(str(error), Exit.USAGE) from None
        if not kept:
            some = listed(sorted(is_open, key=by_number)[:MOST_NAMED])
            there = f"; it has {counted(len(is_open), 'conflict')}: {some}" if is_open else ""
            raise Stop(f"{mirror} has no conflict about {pattern}{there}", Exit.USAGE)
        chosen.update(kept)
    return sorted(chosen, key=by_number)


def _read(ledger: Ledger, mirrors: Sequence[str], *, settled: bool) -> Found:
    """Sorted by mirror and tag; of one tag the newest first."""

    def of(mirror: str) -> Iterator[Conflict]:
        return ledger.conflicts.settled(mirror) if settled else ledger.conflicts.open(mirror)

    return [
        (mirror, one)
        for mirror in _meant(ledger, mirrors)
        for one in sorted(of(mirror), key=lambda one: by_number(one.tag))
    ]


def _meant(ledger: Ledger, mirrors: Sequence[str]) -> list[str]:
    """Those, and the repositories of those that are wildcards; none: all."""
    known = ledger.conflicts.mirrors()
    found = [one for name in mirrors for one in (name, *(k for k in known if k.startswith(f"{name}/")))]
    return list(dict.fromkeys(found if mirrors else known))


def _show(session: Session, found: Found) -> None:
    for mirror, one in found:
        left = " (the mirror is not in the fleet file any more)" if _has_left(session, mirror) else ""
        session.console.result(f"{mirror} {one.tag}: {_kind(one)}{left}")
        width = max(len(name) for name in one.sides)
        for name, digest in one.sides.items():
            session.console.result(f"  {name:{width}}  {_shown(one, digest)}")
    if found[0][1].settled_s is None:
        for is_left in (False, True):
            first = next(((m, one) for m, one in found if _has_left(session, m) == is_left), None)
            if first:
                session.console.say(_remedy(*first, is_left=is_left))


def _remedy(mirror: str, one: Conflict, *, is_left: bool) -> str:
    if is_left:
        return f"`sealift resolve {mirror} {one.tag} --drop` takes it off the list; nothing is moved."
    side = next((name for name, digest in one.sides.items() if digest), "REGISTRY")
    decision = f"sealift resolve {mirror} {one.tag} --take {side}"
    return f"Decide with `{decision}`, or whichever side is right."


def _kind(one: Conflict) -> str:
    what = {
        "conflict": "moved apart",
        "deleted": "deleted on one side",
        "immutable": "an immutable tag moved",
        "moved": "moved while a run was about to",
        "take": "was left alone",
        "gone": "was left alone, and deleted on all sides",
    }.get(one.kind, one.kind)
    if one.settled_s is None:
        return f"{what}, seen first {moment(one.since_s)}, last by run {one.run}"
    by = f" by run {one.run}" if one.run else ""
    return f"{what}, settled {moment(one.settled_s)}{by}: {_SETTLED.get(one.rule, one.rule)}"


def _shown(one: Conflict, digest: str | None) -> str:
    if digest is None:
        return "no such tag"
    notes = [note for note, at in (("as all had it", one.base), ("taken", one.took)) if at == digest]
    return f"{digest} ({', '.join(notes)})" if notes else digest
