"""``rollback``, ``pins`` and ``unpin``: tags go back, stay there if that is wanted, and are let go again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from registry.descriptor import abridged
from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.history import own_spec
from workers.cli.lists import hosts_of
from workers.cli.mirroring import see_through, unknown
from workers.cli.session import Session
from workers.cli.text import MOST_NAMED, listed, moment, some

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.history import Flip
    from mirror.ledger.pins import Pin
    from mirror.rollback import NoWayBack
    from mirror.spec import MirrorSpec
    from tasks.runtime import Runtime


def rollback(
    context: typer.Context,
    *,
    mirror: options.OneMirror,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="TAG", help="Tags; none, with --run: all that it moved.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DIGEST", help="To this digest, or the start of one in the history."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="To what each tag was before that run.")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="And keep them there, whatever the source has.")] = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Move tags back in every target, together: to what they were before their last move, unless said.

    The source is not asked: what a target has lost comes from another. A tag that is whole in none stays.

    - `sealift rollback explorer 1.4 --pin`
    - `sealift rollback explorer --run RUN` undoes what that run moved
    """
    session = Session.of(context)
    session.console.json = json
    wanted = _Wanted(session, mirror, tuple(dict.fromkeys(tags or ())), to or "", run or "", pin)
    own = wanted.checked()

    def start(fleet: Engine) -> list[str]:
        from mirror.rollback import rollback_of
        from tasks import producer

        flips = wanted.flips(fleet.rt.ledger)
        spec = own or _remembered(session, fleet.rt.ledger, mirror, flips)
        _refuse_misspelt(fleet.rt, spec, [tag for tag, own_flips in flips.items() if not own_flips])
        digests = wanted.digests(fleet.rt.ledger, flips, [target.repository for target in spec.targets])
        fleet.need(spec.regions, wait=not no_wait)
        return [producer.start(fleet.rt, rollback_of(spec, digests, pin=pin))] if digests else []

    return see_through(
        session, (), start, wait=not no_wait, timeout_s=timeout, everything=all_rows, judge=wanted.judged
    )


@dataclass
class _Wanted:
    """What was typed, and which of it cannot be had."""

    session: Session
    mirror: str
    tags: tuple[str, ...]
    to: str
    run: str
    pin: bool
    left: dict[str, NoWayBack] = field(default_factory=dict)
    """By tag that stays where it is while others go back."""

    def checked(self) -> MirrorSpec | None:
        """The fleet file's mirror, if it has it; Stop where nothing can be meant or was moved."""
        if self.to and self.run:
            raise Stop("--to and --run each say where to go back to: give one of them", Exit.USAGE)
        if not self.tags and not self.run:
            raise Stop("say which TAG, or --run RUN for all that it moved", Exit.USAGE)
        _check_words(self.tags, self.to)
        own = own_spec(self.session, self.mirror)
        if self.session.is_fresh:
            nothing = f"nothing has run on {self.session.state.path} yet"
            raise Stop(f"no move of {self.mirror} is remembered: {nothing}", Exit.USAGE)
        if own and not self.session.finds_fleet:
            self.session.check_fleet(hosts_of([own], None))
        return own

    def flips(self, ledger: Ledger) -> dict[str, list[Flip]]:
        """By tag, the newest first; without tags those that the run moved. Stop where that is nothing."""
        if self.tags:
            known = ledger.history.of(self.mirror, self.tags)
            return {tag: known.get(tag, []) for tag in self.tags}
        moved = {one.tag for one in ledger.history.all(self.mirror) if one.run == self.run}
        if not moved:
            reason = f"no move by run {self.run} is remembered in the history of {self.mirror}"
            raise Stop(reason, Exit.USAGE)
        return ledger.history.of(self.mirror, sorted(moved))

    def digests(
        self, ledger: Ledger, flips: Mapping[str, Sequence[Flip]], targets: Sequence[str]
    ) -> dict[str, str]:
        """Where each tag goes. A run is undone as far as it can be; of tags all go, or Stop names why not."""
        from mirror.rollback import NoWayBack, digest_before, digest_named, meant

        digests = dict[str, str]()
        for tag, own in flips.items():
            try:
                digests[tag] = digest_named(tag, own, self.to) if self.to else ""
                digests[tag] = digests[tag] or digest_before(tag, own, targets, self.run)
            except NoWayBack as fault:
                digests.pop(tag, None)
                self.left[tag] = fault
        if self.left and not self.run:
            names = ledger.history.names(self.mirror)
            faults = [f"{fault}{'' if flips[tag] else meant(tag, names)}" for tag, fault in self.left.items()]
            raise Stop("; ".join(faults), Exit.FAILED)
        self._tell(ledger, digests, targets)
        return digests

    def judged(self, code: Exit) -> Exit:
        """A tag that was asked for and stays is a failure; one that the run had made is none."""
        from mirror.rollback import WasNew

        fails = any(tag in self.tags or not isinstance(why, WasNew) for tag, why in self.left.items())
        return Exit.FAILED if fails and code is Exit.DONE else code

    def _tell(self, ledger: Ledger, digests: Mapping[str, str], targets: Sequence[str]) -> None:
        """What somebody would not expect: tags that stay, and pins that do not."""
        from mirror.rollback import WasNew

        say = self.session.console.say
        new = [tag for tag, why in self.left.items() if isinstance(why, WasNew)]
        if new:
            say(_stays(new, self.run, targets), "yellow")
        for tag, why in self.left.items():
            if tag not in new:
                say(f"left as it is: {why}", "yellow")
        pinned = [] if self.pin else list(ledger.pins.of(self.mirror, list(digests)))
        if pinned:
            free = f"`sealift unpin {self.mirror} {' '.join(pinned[:MOST_NAMED])}` lets go"
            was = "was pinned: its pin goes" if len(pinned) == 1 else "were pinned: their pins go"
            say(f"{some(pinned)} {was} along; {free}")


def _stays(new: list[str], run: str, targets: Sequence[str]) -> str:
    """Tags that a run made are there still when it is undone; what to do about them."""
    was, they, them = ("was", "it stays", "it") if len(new) == 1 else ("were", "they stay", "them")
    delete = f"delete {them} at the source, or the next run brings {them} again, then in {listed(targets)}"
    return f"{some(new)} {was} new with run {run}: {they}. To be rid of {them}, {delete}"


def _refuse_misspelt(rt: Runtime, spec: MirrorSpec, tags: Sequence[str]) -> None:
    """Stop where a tag without a history is in none of the targets, as far as they are reached from here.

    Regions ask again: a run makes no such tag either.
    """
    from mirror.rollback import meant
    from registry.errors import NotFound, RegistryError

    def is_nowhere(tag: str) -> bool:
        for target in spec.targets:
            try:
                rt.engine.open_repository(target.repository).resolve(tag)
            except NotFound:
                continue
            except RegistryError:
                return False
            return False
        return True

    if missing := [tag for tag in tags if is_nowhere(tag)]:
        names = rt.ledger.history.names(spec.name)
        nowhere = "no target has such a tag, and no move of it is remembered"
        raise Stop("; ".join(f"{tag}: {nowhere}{meant(tag, names)}" for tag in missing), Exit.FAILED)


def _check_words(tags: Sequence[str], to: str) -> None:
    """Stop where a tag or a digest cannot be one."""
    from mirror.rollback import begins_digest
    from mirror.select import is_keeper_tag
    from registry.reference import MalformedReference, check_tag

    for tag in tags:
        try:
            check_tag(tag)
        except MalformedReference as error:
            raise Stop(str(error), Exit.USAGE) from None
        if is_keeper_tag(tag):
            raise Stop(f"{tag} keeps what another tag was: name that one, with --to", Exit.USAGE)
    if to and not begins_digest(to):
        reason = f"--to {to!r} is no digest (sha256: and 64 hexadecimal digits), nor the start of one"
        raise Stop(reason, Exit.USAGE)


def pins(
    context: typer.Context,
    *,
    mirror: Annotated[
        str | None, typer.Argument(metavar="MIRROR", help="Only this one's; of a wildcard all below it.")
    ] = None,
    json: options.Json = False,
) -> Exit:
    """List pinned tags: where they stay, since when, and by which rollback."""
    session = Session.of(context)
    session.console.json = json
    found: list[Pin] = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            found = sorted(fleet.rt.ledger.pins.all(), key=lambda one: (one.mirror, one.tag))
    if mirror:
        found = [one for one in found if mirror in {one.mirror, one.mirror.partition("/")[0]}]
        if not found:
            _need_mirror(session, mirror)
    if json:
        session.console.document({"pins": [one.document() for one in found]})
    elif found:
        _show(session, found)
    else:
        session.console.result("No tag is pinned.")
    return Exit.DONE


def unpin(
    context: typer.Context,
    *,
    mirror: options.OneMirror,
    tags: Annotated[list[str], typer.Argument(metavar="TAG", help="Tags.")],
    json: options.Json = False,
) -> Exit:
    """Let pinned tags follow the source again, from the next run on."""
    session = Session.of(context)
    session.console.json = json
    dropped: list[str] = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            dropped = fleet.rt.ledger.pins.drop(mirror, tags)
    if not dropped:
        _need_mirror(session, mirror)
    if json:
        session.console.document({"mirror": mirror, "unpinned": dropped})
    elif dropped:
        session.console.result(f"{listed(dropped)} of {mirror} may move again, from the next run on.")
    else:
        session.console.result(f"Nothing to do: {listed(tags, 'or')} of {mirror} is not pinned.")
    return Exit.DONE


def _remembered(
    session: Session, ledger: Ledger, mirror: str, flips: Mapping[str, Sequence[Flip]]
) -> MirrorSpec:
    """The terms of a mirror that the fleet file does not have: those of the run that moved its tags last."""
    from mirror.ledger import UnknownRun
    from mirror.spec import one_of

    last = max((one for own in flips.values() for one in own), key=lambda one: one.at_s, default=None)
    if last is None:
        raise Stop(unknown(mirror, [entry.name for entry in session.fleet.mirrors]), Exit.USAGE)
    try:
        spec = ledger.spec(last.run)
    except UnknownRun:
        reason = f"the fleet file has no mirror {mirror!r}, and its last run {last.run} is forgotten"
        raise Stop(f"{reason}: add the mirror", Exit.USAGE) from None
    return one_of(spec, mirror.removeprefix(f"{spec.name}/"))


def _need_mirror(session: Session, mirror: str) -> None:
    """Stop where nothing is pinned of a name because there is no such mirror."""
    known = [entry.name for entry in session.fleet.mirrors]
    if mirror.partition("/")[0] not in known:
        raise Stop(unknown(mirror, known), Exit.USAGE)


def _show(session: Session, found: Sequence[Pin]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("MIRROR", "TAG", "PINNED AT", "SINCE", "BY"):
        table.add_column(name, overflow="fold")
    for one in found:
        table.add_row(
            Text(one.mirror),
            Text(one.tag),
            abridged(one.digest, end=""),
            moment(one.at_s),
            f"rollback {one.run}",
        )
    session.console.table(table)
