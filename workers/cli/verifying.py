"""``verify``: proof that targets hold what the tags promise, and repair of what they do not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from config.checks import SIZE, bytes_of
from mirror.spec import MirrorSpec, Verification
from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.lists import hosts_of
from workers.cli.mirroring import named_specs, run_all
from workers.cli.session import Session
from workers.cli.specs import Terms, spec_from
from workers.cli.text import listed
from workers.cli.waiting import wait_for

if TYPE_CHECKING:
    from mirror.report import RunReport


@dataclass(frozen=True, slots=True)
class _Told:
    """What the options say; None: nothing."""

    deep: bool | None
    sample: int | None
    most_bytes: int | None
    bytes_per_s: int | None
    repairs: bool | None

    def over(self, usual: Verification) -> Verification:
        """Those of the fleet file, but for what the options say."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        how = replace(usual, **own)
        if not how.deep and (self.most_bytes or self.bytes_per_s):
            raise Stop("--bytes and --rate say how much is read: give --deep too", Exit.USAGE)
        return how


def verify(
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
    deep: Annotated[
        bool | None, typer.Option("--deep/--no-deep", help="Read and hash bytes, too.", show_default=False)
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="Only N tags, others each time.")
    ] = None,
    most_bytes: Annotated[
        str | None,
        typer.Option("--bytes", metavar="SIZE", help="Read at most so much, as 20GB."),
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="SIZE", help="Read at most so much a second: 50MB.")
    ] = None,
    repair: Annotated[
        bool | None, typer.Option("--repair/--no-repair", help="Mend what is wrong.", show_default=False)
    ] = None,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Prove that targets hold all that the mirrors' tags promise; ends with 1 where they do not.

    Asks by HEADs, with no pull that counts. What is not said here is as the fleet file's `verify` has it.

    - `sealift verify explorer`
    - `sealift verify explorer --deep --bytes 20GB --repair`
    - `sealift verify alpine --tags '3.*' --to ghcr.io/me/alpine`
    """
    session = Session.of(context)
    session.console.json = json
    told = _Told(deep, sample, _size("--bytes", most_bytes), _size("--rate", rate), repair)
    specs = _specs(session, mirrors or [], to or [], tags or [], told)
    if no_wait:
        return run_all(session, specs, "release", wait=False, timeout_s=timeout)
    return _see_through(session, specs, timeout, everything=all_rows)


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(SIZE, text):
        raise Stop(f"{option} {text}: write a number and its unit, as in 500MB, 20GB or 64MiB", Exit.USAGE)
    return bytes_of(text)


def _specs(
    session: Session, names: Sequence[str], to: Sequence[str], tags: Sequence[str], told: _Told
) -> list[MirrorSpec]:
    from tasks.terms import verification_of, verifying

    if to:
        if len(names) != 1:
            raise Stop("verify … --to takes exactly one SOURCE", Exit.USAGE)
        spec, note = spec_from(names[0], to, Terms(tuple(tags)))
        if note:
            session.console.say(note)
        return [verifying(spec, told.over(Verification()))]
    if tags:
        raise Stop("--tags goes with SOURCE and --to; a mirror's are in the fleet file", Exit.USAGE)
    rules = {one.name: one.verify for one in session.fleet.mirrors}
    found = named_specs(session, names)
    return [verifying(spec, told.over(verification_of(rules[spec.name]))) for spec in found]


def _see_through(
    session: Session, specs: Sequence[MirrorSpec], timeout_s: float | None, *, everything: bool
) -> Exit:
    """Verify, repair what is wrong where that is wanted, and verify that again; the last word counts."""
    from workers.cli.summary import exit_code, show

    regions = list(dict.fromkeys(region for spec in specs for region in spec.regions))
    if not session.finds_fleet:
        session.check_fleet(hosts_of(specs))
    is_new = session.is_external or session.state.is_new
    with engine(session, regions, workers=True) as fleet:
        if not is_new:
            fleet.resume("")
        fleet.need(regions, wait=True)
        reports = _verified(fleet, specs, timeout_s)
        repairs = {spec.name for spec in specs if spec.verification and spec.verification.repairs}
        wrong = [report for report in reports if report.mirror in repairs and _is_wrong(report)]
        mended = _mended(fleet, wrong, timeout_s) if wrong else []
        left = [report for report in reports if report not in wrong or _is_left(fleet, report)]
        code = exit_code([*left, *mended])
        show(session.console, fleet.rt.ledger, [*reports, *mended], everything=everything, code=code)
    return code


def _verified(fleet: Engine, specs: Sequence[MirrorSpec], timeout_s: float | None) -> list[RunReport]:
    """Nobody but this command repairs what they find."""
    from tasks import producer

    looks = [
        replace(spec, verification=replace(spec.verification or Verification(), repairs=False))
        for spec in specs
    ]
    return wait_for(fleet, [producer.start(fleet.rt, spec) for spec in looks], timeout_s)


def _is_wrong(report: RunReport) -> bool:
    return any(one.missing or one.different or one.damaged or one.behind for one in report.found)


def _is_left(fleet: Engine, report: RunReport) -> bool:
    """Whether there are tags that no repair is about: of which nothing could be said, or nobody decided."""
    from mirror.ledger.verified import MENDED

    if any(one.held for one in report.found):
        return True
    tags = fleet.rt.ledger.tag_reports(report.run)
    return any(t.state == "failed" and t.kind not in MENDED for one in tags for t in one.targets)


def _mended(fleet: Engine, wrong: Sequence[RunReport], timeout_s: float | None) -> list[RunReport]:
    """The repairs, and the proof of each."""
    from tasks import producer

    console, ledger = fleet.session.console, fleet.rt.ledger
    console.say(f"repairing what is wrong in {listed([report.mirror for report in wrong])}")
    repairs = [producer.repair(fleet.rt, report.run) for report in wrong]
    repaired = wait_for(fleet, repairs, timeout_s)
    proofs = [producer.verify_again(fleet.rt, run) for run in repairs]
    wait_for(fleet, proofs, timeout_s)
    return [*repaired, *(ledger.run_report(run) for run in proofs)]
