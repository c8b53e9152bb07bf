"""``rewrite``: references in files from an old place to a new one, where the image is proven to be there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.session import Session
from workers.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirror.rewrite.files import Left, Rewritten, Survey
    from mirror.rewrite.moves import Moves
    from mirror.rewrite.proof import Claim, Verdict


def rewrite(
    context: typer.Context,
    *,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, and folders of them.")],
    maps: Annotated[
        list[str], typer.Option("--map", metavar="OLD=NEW", help="A registry, a path of it or a repository.")
    ],
    write: Annotated[bool, typer.Option("--write", help="Change the files; else only show how.")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="Write the digest behind the tag.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only look for old references; 1 if there is one.")
    ] = False,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="OS/ARCH", help="Only these of an index need be there."),
    ] = None,
    json: options.Json = False,
) -> Exit:
    """Rewrite image references in Compose, Kubernetes, Helm, Dockerfiles, workflows, scripts and lists.

    Only what is proven equal at the new place changes; the rest stays and is named.
    Comments and layout are kept.

    - `sealift rewrite . --map docker.io/org=ghcr.io/org` shows a diff
    - `sealift rewrite . --map docker.io/org=ghcr.io/org --write --pin`
    - `sealift rewrite . --map docker.io/org=ghcr.io/org --check` for CI: asks no registry
    """
    from mirror.rewrite.files import decide
    from mirror.rewrite.moves import Moves

    session = Session.of(context)
    session.console.json = json
    if check and (write or pin):
        raise Stop("--check only looks: leave out --write and --pin", Exit.USAGE)
    moves = Moves.parse(maps, in_place=pin)
    found = _survey(session, paths, moves)
    if check:
        return _check(session, found)
    changed, left = decide(found.sources, _verdicts(session, found, moves, platform or []), pin=pin)
    if write:
        _write(changed)
    code = _code(left)
    if json:
        session.console.document({"exit_code": int(code), **_document(found, changed, left, written=write)})
    else:
        _show(session, found, changed, left, written=write)
    return code


def _survey(session: Session, paths: Sequence[Path], moves: Moves) -> Survey:
    from mirror.rewrite.files import survey

    try:
        found = survey(paths, moves)
    except OSError as error:
        raise Stop(f"{error.filename}: {error.strerror}", Exit.USAGE) from None
    for path in found.skipped:
        session.console.say(f"{path}: no text, left out")
    if not found.looked_at:
        raise Stop(
            f"{', '.join(map(str, paths))}: no file of a kind that refers to images; name one itself",
            Exit.USAGE,
        )
    return found


def _verdicts(
    session: Session, found: Survey, moves: Moves, platforms: Sequence[str]
) -> dict[Claim, Verdict]:
    """Ask both places about every image, once each."""
    from mirror.retry import Patience
    from mirror.rewrite.proof import Prover
    from registry.descriptor import Platform
    from tasks.runtime import connections_of

    try:
        wanted = tuple(Platform.parse(text) for text in platforms)
    except ValueError as error:
        raise Stop(f"--platform: {error}", Exit.USAGE) from None
    claims = list(dict.fromkeys(found.claims))
    if not claims:
        return {}
    session.check_fleet({place.host for pair in moves.pairs for place in pair})
    session.console.say(f"Asking both places about {counted(len(claims), 'image')}")
    connections = connections_of(session.settings, session.fleet)
    patience = Patience(session.settings.attempts, session.settings.retry_budget_s)
    try:
        return Prover(connections.open, patience, wanted).prove(claims)
    finally:
        connections.close()


def _write(changed: Sequence[Rewritten]) -> None:
    from mirror.rewrite.files import Changed

    for one in changed:
        try:
            one.write()
        except Changed as error:
            raise Stop(f"{error}; run it again", Exit.FAILED) from None
        except OSError as error:
            raise Stop(f"{one.source.path}: cannot be written: {error.strerror}", Exit.FAILED) from None


def _check(session: Session, found: Survey) -> Exit:
    """Name every old reference; what is published or mirrored there is none."""
    from mirror.rewrite.spots import STAYS

    old = [(source, spot) for source in found.sources for spot in source.spots if spot.role not in STAYS]
    code = Exit.FAILED if old else Exit.DONE
    if session.console.json:
        rows = [
            {"file": str(source.path), "line": spot.line, "reference": spot.shown, "new": spot.new.name}
            for source, spot in old
        ]
        session.console.document({"exit_code": int(code), "looked_at": found.looked_at, "old": rows})
        return code
    for source, spot in old:
        verb = "may be an old image" if spot.is_unsure else "is old"
        session.console.result(
            f"{source.path}:{spot.line}: {spot.shown} {verb}; its new place is {spot.new.name}"
        )
    remain = counted(len(old), "old reference") if old else "No old reference"
    session.console.say(f"{remain} in {counted(found.looked_at, 'file')}")
    return code


def _code(left: Sequence[Left]) -> Exit:
    """What is published or mirrored stays for its owner to decide; nothing has failed."""
    from mirror.rewrite.spots import STAYS

    failed = [one for one in left if one.spot.role not in STAYS]
    if not failed:
        return Exit.DONE
    return Exit.AUTHENTICATION if all(one.is_denied for one in failed) else Exit.FAILED


def _show(
    session: Session, found: Survey, changed: Sequence[Rewritten], left: Sequence[Left], *, written: bool
) -> None:
    for one in changed:
        session.console.result(one.diff().rstrip("\n"))
    for one in changed:
        for spot in one.unpinned:
            session.console.say(
                f"{one.source.path}:{spot.line}: {spot.shown} has no room for a digest: not pinned"
            )
    for stays in left:
        session.console.say(f"{stays.place}: {stays.spot.shown} stays: {stays.why}")
    session.console.say(_summary(found, changed, left, written=written))


def _summary(found: Survey, changed: Sequence[Rewritten], left: Sequence[Left], *, written: bool) -> str:
    if not changed and not left:
        return f"No old reference in {counted(found.looked_at, 'file')}"
    count = sum(len(one.spots) for one in changed)
    verb = "changed" if written else "would change; --write does it"
    stay = f", {counted(len(left), 'reference')} stay{'' if len(left) > 1 else 's'}" if left else ""
    if not changed:
        return f"No reference can change{stay}"
    return f"{counted(count, 'reference')} in {counted(len(changed), 'file')} {verb}{stay}"


def _document(
    found: Survey, changed: Sequence[Rewritten], left: Sequence[Left], *, written: bool
) -> dict[str, Any]:
    return {
        "looked_at": found.looked_at,
        "written": written,
        "changed": [_changed_document(one) for one in changed],
        "left": [_left_document(one) for one in left],
    }


def _changed_document(one: Rewritten) -> dict[str, Any]:
    references = [
        {"line": spot.line, "from": spot.shown, "to": spot.new.name, "pinned": spot not in one.unpinned}
        for spot in one.spots
    ]
    return {"file": str(one.source.path), "references": references, "diff": one.diff()}


def _left_document(one: Left) -> dict[str, Any]:
    return {
        "file": str(one.source.path),
        "line": one.spot.line,
        "reference": one.spot.shown,
        "role": one.spot.role,
        "reason": one.why,
    }
