"""``mirror``, ``sync`` and ``plan``: what sets runs going, or says what they would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mirror.spec import Finalize, Lane, MirrorSpec
from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.lists import STDIN, References, hosts_of, reading
from workers.cli.planning import plan_all
from workers.cli.session import Session
from workers.cli.specs import Terms, spec_from, spec_of_list
from workers.cli.text import counted, listed

if TYPE_CHECKING:
    from mirror.report import RunReport


def mirror(
    context: typer.Context,
    *,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Repository, repo:tag, repo@digest or oci:DIR.")
    ],
    to: options.To = None,
    tags: options.Tags = None,
    exclude: options.Exclude = None,
    newest: options.Newest = None,
    platform: options.Platforms = None,
    referrers: options.Referrers = True,
    finalize: Annotated[Finalize, typer.Option(help="Targets move together, or each on its own.")] = "all",
    lane: Annotated[Lane, typer.Option(help="Someone waits, or this may take its time.")] = "release",
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Mirror one image or repository now.

    Without a Redis URL a fleet is started for it on this machine and stopped afterwards.
    Accounts are those of `docker login`, or the fleet file's.

    - `sealift mirror alpine:3.20 --to ghcr.io/me/alpine`
    - `sealift mirror alpine:3.20 --to ghcr.io/me/alpine --to eu=eu.example/app`
    - `sealift mirror ghcr.io/me/app --tags 'semver:>=1.2' --to oci:backup`
    """
    session = Session.of(context)
    session.console.json = json
    if not to:
        is_known = any(one.name == source for one in session.fleet.mirrors)
        hint = f"; `sealift sync {source}` runs the mirror of the fleet file" if is_known else ""
        raise Stop(f"Missing option '--to': a repository to write{hint}", Exit.USAGE)
    terms = Terms(tuple(tags or ()), tuple(exclude or ()), newest, tuple(platform or ()), referrers, finalize)
    spec, note = spec_from(source, to, terms)
    if note:
        session.console.say(note)
    return run_all(session, [spec], lane, wait=not no_wait, timeout_s=timeout, everything=all_rows)


def sync(
    context: typer.Context,
    *,
    mirrors: Annotated[list[str] | None, typer.Argument(metavar="MIRROR", help="Names; none: all.")] = None,
    lane: Annotated[Lane, typer.Option(help="Someone waits, or this may take its time.")] = "release",
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Run mirrors of the fleet file.

    - `sealift sync` runs all of them and waits
    - `sealift sync explorer --no-wait` hands one to a running fleet
    """
    session = Session.of(context)
    session.console.json = json
    specs = named_specs(session, mirrors or [])
    return run_all(session, specs, lane, wait=not no_wait, timeout_s=timeout, everything=all_rows)


def backfill(
    context: typer.Context,
    *,
    mirrors: Annotated[list[str] | None, typer.Argument(metavar="MIRROR", help="Names; none: all.")] = None,
    source: options.From = None,
    to: options.ListTo = None,
    tags: options.Tags = None,
    exclude: options.Exclude = None,
    newest: options.Newest = None,
    platform: options.Platforms = None,
    resume: options.Resume = None,
    dry_run: options.DryRun = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Run mirrors of the fleet file behind everything that somebody waits for.

    One that is under way on the same terms is joined, not doubled.

    - `sealift backfill explorer --no-wait`
    - `sealift backfill --from images.txt --to 'ghcr.io/me/*'`
    - `sealift backfill explorer --dry-run` plans a run that `--resume` begins
    - `sealift backfill --resume RUN`
    """
    session = Session.of(context)
    session.console.json = json
    terms = Terms(tuple(tags or ()), tuple(exclude or ()), newest, tuple(platform or ()))
    if resume is not None:
        if mirrors or dry_run or source:
            raise Stop("--resume goes on with one run: it takes no MIRROR, --from or --dry-run", Exit.USAGE)
        return go_on(session, resume, wait=not no_wait, timeout_s=timeout, everything=all_rows)
    with ExitStack() as stack:
        specs, references = _what(session, stack, mirrors or [], source, to or [], terms)
        if dry_run:
            return plan_all(
                session, specs, "backfill", keeps=True, everything=all_rows, references=references
            )
        return run_all(
            session,
            specs,
            "backfill",
            wait=not no_wait,
            timeout_s=timeout,
            everything=all_rows,
            references=references,
        )


def _what(
    session: Session,
    stack: ExitStack,
    mirrors: Sequence[str],
    source: str | None,
    to: Sequence[str],
    terms: Terms,
) -> tuple[list[MirrorSpec], References | None]:
    """What a backfill is about: mirrors, or one list of references, which ``stack`` holds open."""
    if source is None:
        if to or terms != Terms():
            raise Stop(
                "--to, --tags and the like go with --from; a mirror's are in the fleet file", Exit.USAGE
            )
        return named_specs(session, mirrors), None
    spec = _spec_of_list(session, source, mirrors, to, terms)
    return [spec], stack.enter_context(reading(source, spec))


def _spec_of_list(
    session: Session, source: str, mirrors: Sequence[str], to: Sequence[str], terms: Terms
) -> MirrorSpec:
    """On what terms a list is run: those of the options, or of the one mirror whose references it has."""
    if to and not mirrors:
        return spec_of_list(Path(source).stem if source != STDIN else "stdin", to, terms)
    if len(mirrors) != 1 or to:
        raise Stop("--from takes either --to or one MIRROR, whose targets it goes to", Exit.USAGE)
    if terms != Terms():
        raise Stop("--tags and the like go with --to; a mirror's are in the fleet file", Exit.USAGE)
    (spec,) = named_specs(session, mirrors)
    if spec.kind == "two_way":
        raise Stop(f"{spec.name} is a two-way mirror: a list has no source to take from", Exit.USAGE)
    return spec


def go_on(session: Session, run: str, *, wait: bool, timeout_s: float | None, everything: bool) -> Exit:
    """Resume a run and see it through."""
    refuse_fresh(session, run)

    def resume(fleet: Engine) -> list[str]:
        from tasks import producer

        refuse_ended(fleet.rt.ledger.run_report(run))
        fleet.need(fleet.rt.ledger.spec(run).regions, wait=wait)
        producer.resume(fleet.rt, run)
        return [run]

    return see_through(
        session, (), resume, wait=wait, timeout_s=timeout_s, everything=everything, watched=run
    )


def plan(
    context: typer.Context,
    *,
    mirrors: Annotated[
        list[str] | None,
        typer.Argument(metavar="MIRROR|SOURCE", help="Names; none: all. Or one SOURCE with --to."),
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="[REGION=]TARGET", help="As for mirror.")
    ] = None,
    tags: options.Tags = None,
    exclude: options.Exclude = None,
    newest: options.Newest = None,
    platform: options.Platforms = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Read no manifest where reading is counted; less is known then.")
    ] = False,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Say what a run would do, and what that costs: asks the registries, writes nothing there.

    Pulls that it makes are those that the run needs: what was read is kept for it.

    - `sealift plan explorer`
    - `sealift plan alpine --tags '3.*' --to ghcr.io/me/alpine`
    """
    session = Session.of(context)
    session.console.json = json
    names = mirrors or []
    if to:
        if len(names) != 1:
            raise Stop("plan … --to takes exactly one SOURCE", Exit.USAGE)
        terms = Terms(tuple(tags or ()), tuple(exclude or ()), newest, tuple(platform or ()))
        spec, note = spec_from(names[0], to, terms)
        if note:
            session.console.say(note)
        specs = [spec]
    elif tags or exclude or newest or platform:
        raise Stop(
            "--tags and the like go with SOURCE and --to; a mirror's are in the fleet file", Exit.USAGE
        )
    else:
        specs = named_specs(session, names)
    return plan_all(session, specs, "release", reads=not heads, everything=all_rows)


def named_specs(session: Session, names: Sequence[str]) -> list[MirrorSpec]:
    """The fleet file's mirrors of these names, or all of them."""
    from tasks.terms import spec_of

    known = {entry.name: entry for entry in session.fleet.mirrors}
    if not known:
        if not session.has_fleet_file:
            raise Stop(
                f"there is no fleet file {session.settings.fleet_file}: write it, name it with --fleet-file, "
                "or mirror directly: sealift mirror SOURCE --to TARGET",
                Exit.CONFIGURATION,
            )
        raise Stop(f"{session.settings.fleet_file} has no mirrors", Exit.CONFIGURATION)
    for name in names:
        if name not in known:
            raise Stop(unknown(name, list(known)), Exit.USAGE)
    session.check_fleet()
    return [spec_of(known[name], session.fleet) for name in dict.fromkeys(names or known)]


def run_all(
    session: Session,
    specs: Sequence[MirrorSpec],
    lane: Lane,
    *,
    wait: bool,
    timeout_s: float | None,
    everything: bool = False,
    references: References | None = None,
) -> Exit:
    """Enqueue a run of each, and see them through where that is wanted.

    ``references``: what they are about instead of all that their sources have.
    """
    regions = list(dict.fromkeys(region for spec in specs for region in spec.regions))
    if not session.finds_fleet:
        session.check_fleet(hosts_of(specs, references))

    def start(fleet: Engine) -> list[str]:
        from tasks import producer

        fleet.need(regions, wait=wait)
        if lane == "release":
            return [producer.start(fleet.rt, spec) for spec in specs]
        entries = references.entries if references else lambda: None
        started = [producer.start_backfill(fleet.rt, spec, entries()) for spec in specs]
        for spec, one in zip(specs, started, strict=True):
            if not one.is_new:
                session.console.say(f"{spec.name}: joins run {one.run}, which is under way on the same terms")
        return [one.run for one in started]

    return see_through(session, regions, start, wait=wait, timeout_s=timeout_s, everything=everything)


def see_through(
    session: Session,
    regions: Sequence[str],
    start: Callable[[Engine], list[str]],
    *,
    wait: bool,
    timeout_s: float | None,
    everything: bool = False,
    watched: str = "",
    judge: Callable[[Exit], Exit] = lambda code: code,
) -> Exit:
    """``start`` some runs on whatever fleet there is, wait, and show how they ended.

    ``judge``: what is returned where the runs alone would say otherwise.
    """
    from mirror.ledger import NotConfirmed
    from workers.cli.summary import exit_code, show
    from workers.cli.waiting import wait_for

    is_new = session.is_external or session.state.is_new
    with engine(session, regions, workers=wait) as fleet:
        if not wait and not fleet.outlives_command:
            raise Stop(
                "--no-wait needs a fleet that goes on: run `sealift up` in another shell, "
                "or set SEALIFT_REDIS_URL",
                Exit.USAGE,
            )
        if not is_new:
            fleet.resume(watched)
        runs = start(fleet)
        if not wait:
            try:
                fleet.rt.ledger.confirm_runs(runs)  # nobody watches them: they must outlive the server
            except NotConfirmed as error:  # they are under way, and a script must not begin them again
                session.console.say(f"a Redis that takes over now may not know of this: {error}", "yellow")
            return _enqueued(session, runs, judge(Exit.DONE))
        reports = wait_for(fleet, runs, timeout_s)
        code = judge(exit_code(reports))
        return show(session.console, fleet.rt.ledger, reports, everything=everything, code=code)


def refuse_fresh(session: Session, run: str) -> None:
    """Stop where there can be no run."""
    if session.is_fresh:
        raise Stop(f"no run {run!r}: nothing has run on {session.state.path} yet", Exit.USAGE)


def refuse_ended(report: RunReport) -> None:
    """Stop where nothing is left to steer."""
    if report.ended:
        again = f"`sealift retry {report.run}` tries again what failed"
        raise Stop(f"run {report.run} has ended ({report.state}): {again}", Exit.USAGE)


def _enqueued(session: Session, runs: list[str], code: Exit) -> Exit:
    if session.console.json:
        session.console.document({"exit_code": int(code), "runs": [{"run": run} for run in runs]})
        return code
    for run in runs:
        session.console.result(run)
    watch = listed([f"`sealift watch {run}`" for run in runs])
    if runs:
        session.console.say(f"{counted(len(runs), 'run')} enqueued; {watch} shows how it goes")
    return code


def unknown(name: str, known: list[str]) -> str:
    """There is no mirror of that name; which one may be meant."""
    close = get_close_matches(name, known, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else f"; it has {listed(sorted(known)[:8]) or 'none'}"
    return f'the fleet file has no mirror "{name}"{hint}'
