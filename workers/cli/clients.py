"""``clients``: what users of the images put into their configuration, by what was measured for them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import engine
from workers.cli.mirroring import named_specs
from workers.cli.session import Session
from workers.cli.specs import check_region
from workers.cli.text import listed

if TYPE_CHECKING:
    from mirror.clients import Choice
    from mirror.ledger import Ledger
    from mirror.spec import MirrorSpec
    from workers.clients.made import Made, Trust

USUAL_TAG = "latest"
NOTES = ".notes.txt"
"""Ends the name of the file beside one that can have no comments."""


class Format(StrEnum):
    """Each is the name of a module of :mod:`workers.clients`."""

    CONTAINERD = "containerd"
    CONTAINERS = "containers"
    DOCKER = "docker"
    GITHUB = "github"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command was told, its region and platforms checked."""

    mirror: str
    form: Format
    region: str
    platforms: tuple[str, ...]
    tag: str | None
    out: Path | None

    @property
    def again(self) -> str:
        """The command that asks for the same."""
        words = ["sealift", "clients", self.mirror, "--format", str(self.form), "--region", self.region]
        words += [word for one in self.platforms for word in ("--platform", one)]
        words += ["--tag", self.tag] if self.tag else []
        words += ["--out", str(self.out)] if self.out else []
        return shlex.join(words)

    def header(self, made_s: float) -> tuple[str, ...]:
        at = datetime.fromtimestamp(made_s, UTC)
        return (
            f"{_mark(self.mirror)}, for {self.form} in region {self.region}.",
            f"{at:%Y-%m-%d %H:%M:%S} UTC, from what probes measured there and what runs left. Make it again:",
            f"  {self.again}",
        )


def clients(
    context: typer.Context,
    *,
    mirror: options.OneMirror,
    form: Annotated[Format, typer.Option("--format", "-f", help="Whose configuration.")],
    region: Annotated[
        str | None,
        typer.Option("--region", "-r", metavar="REGION", help="Where the clients are; one of the mirror's."),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            "--platform", metavar="OS/ARCH", help="What the clients run; none: anything. Repeatable."
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", metavar="TAG", help="For github and kubernetes; one that a run saw."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE|DIR", help="Write there; of containerd its certs.d."),
    ] = None,
    json: options.Json = False,
) -> Exit:
    """Write what clients of a mirror need to pull from the best registry, and from the next if it is down.

    In the order that probes measured from the region. Registries that are down, behind or partial are left
    out, and a comment says why. Never an account.

    - `sealift clients explorer --format containers --region eu`
    - `sealift clients explorer --format containerd --region eu --out /etc/containerd/certs.d`
    """
    session = Session.of(context)
    session.console.json = json
    spec = _spec(session, mirror)
    asked = _Asked(mirror, form, _region(spec, region), _platforms(platform or []), tag, out)
    _check_tag(tag)
    if session.is_fresh:
        raise Stop(_unrun(spec), Exit.USAGE)
    with engine(session, workers=False) as fleet:
        ledger = fleet.rt.ledger
        choice = _choice(ledger, spec, asked)
        named, made_s = tag or _known_tag(ledger, spec), ledger.now()
    made = _made(session, choice, asked, named, made_s)
    _hand_over(session, made, asked, made_s)
    return Exit.DONE


def _spec(session: Session, mirror: str) -> MirrorSpec:
    """The mirror, or one of a wildcard's repositories; a wildcard as a whole is fine."""
    from mirror.spec import one_of

    name, _, rest = mirror.partition("/")
    (spec,) = named_specs(session, [name])
    if rest and not (spec.is_wildcard and spec.takes(rest)):
        what = "that its repositories leave out" if spec.is_wildcard else "but is one repository"
        raise Stop(f"{name} has no {rest!r} {what}: name the mirror, as {name}", Exit.USAGE)
    return one_of(spec, rest)


def _region(spec: MirrorSpec, region: str | None) -> str:
    there = listed(list(spec.regions))
    if region is None:
        first, *others = spec.regions
        if others:
            hint = f"say where the clients are, as --region {first}"
            raise Stop(f"{spec.mirror} has targets in {there}: {hint}", Exit.USAGE)
        return first
    if check_region(region) not in spec.regions:
        raise Stop(f"{spec.mirror} has no target in region {region!r}; there is: {there}", Exit.USAGE)
    return region


def _platforms(texts: Sequence[str]) -> tuple[str, ...]:
    from registry.descriptor import Platform

    try:
        return tuple(str(Platform.parse(text)) for text in texts)
    except ValueError as error:
        raise Stop(f"--platform: {error}", Exit.USAGE) from None


def _check_tag(tag: str | None) -> None:
    from registry.reference import Reference

    if tag is not None:
        Reference.parse(f"host.example/name:{tag}")


def _unrun(spec: MirrorSpec) -> str:
    name = spec.mirror
    return (
        f"no run of {name} has ended yet, so nothing is known of its registries: `sealift sync {name}` first"
    )


def _choice(ledger: Ledger, spec: MirrorSpec, asked: _Asked) -> Choice:
    from mirror.clients import choose
    from mirror.current import currencies
    from registry.reference import LAYOUT

    known = currencies(ledger, spec)
    if not any(one.is_known for one in known.values()):
        raise Stop(_unrun(spec), Exit.USAGE)
    hosts = {place.partition("/")[0] for place in spec.places if not place.startswith(LAYOUT)}
    reaches = {
        one.host: one for one in ledger.probes.latest([(asked.region, host) for host in sorted(hosts)])
    }
    return choose(spec, asked.region, reaches, known, asked.platforms)


def _known_tag(ledger: Ledger, spec: MirrorSpec) -> str:
    """One that the last run dealt with; else the usual one."""
    sample = ledger.probes.samples.of([spec.mirror]).get(spec.mirror)
    return sample.tag if sample is not None and sample.rest == spec.rest else USUAL_TAG


def _mark(mirror: str) -> str:
    """By which a file is known to be ours, and of that mirror."""
    return f"Made by `sealift clients {mirror}`"


def _made(session: Session, choice: Choice, asked: _Asked, tag: str, made_s: float) -> Made:
    from workers.clients.made import Making, Misfit

    trust = {one.host: _trust(session, one.host) for one in choice.candidates}
    module: Any = import_module(f"workers.clients.{asked.form}")
    try:
        made: Made = module.make(Making(choice, trust, tag, asked.header(made_s)))
    except Misfit as error:
        raise Stop(str(error), Exit.USAGE) from None
    return made


def _trust(session: Session, host: str) -> Trust:
    from registry.endpoint import Endpoint
    from tasks.terms import entry_of
    from workers.clients.made import Trust

    entry = entry_of(session.fleet, host)
    return Trust(
        is_plain=Endpoint(host, plain_http=entry.plain_http).is_plain,
        ca_file=session.fleet.resolve(entry.ca_file) if entry.ca_file else None,
        has_account=bool(entry.username or entry.accounts),
        wants_certificate=bool(entry.client_cert),
    )


def _hand_over(session: Session, made: Made, asked: _Asked, made_s: float) -> None:
    if session.console.json:
        session.console.document(_values(made, asked, made_s))
        return
    _say(session, made, asked.region)
    if asked.out is None:
        _print(session, made)
    else:
        _write(session, made, asked.out, asked.mirror)


def _values(made: Made, asked: _Asked, made_s: float) -> dict[str, Any]:
    return {
        "mirror": asked.mirror,
        "region": asked.region,
        "format": str(asked.form),
        "made_s": made_s,
        "values": made.values,
        "candidates": [one.document() for one in made.choice.candidates],
    }


def _say(session: Session, made: Made, region: str) -> None:
    console, choice = session.console, made.choice
    for one in choice.left_out:
        console.say(f"left out: {one.place}: {one.left_out}")
    for note in made.notes:
        console.say(note)
    if not any(one.reach.standing == "up" for one in choice.candidates):
        console.say(
            f"nothing was measured from {region} lately, so the order is the fleet file's: `sealift probe`"
        )


def _print(session: Session, made: Made) -> None:
    for name, text in made.texts.items():
        if len(made.texts) > 1:
            session.console.result(f"# {name}")
        session.console.result(text.rstrip("\n"))


def _write(session: Session, made: Made, out: Path, mirror: str) -> None:
    """Below the folder, or the only file as it is named; what is there and not ours stays."""
    is_folder = out.is_dir() or str(out).endswith("/") or "/" in next(iter(made.texts))
    files = {out / name if is_folder else out: text for name, text in made.texts.items()}
    if made.notes:
        (place,) = files
        notes = "".join(f"{line}\n" for line in made.notes)
        files |= {place.with_name(f"{place.name}{NOTES}"): notes}
    try:
        for place in files:
            _refuse_foreign(place, mirror)
        for place, text in files.items():
            _replace(place, text)
            session.console.result(str(place))
    except OSError as error:
        raise Stop(f"--out {out}: {error.strerror}: {error.filename}", Exit.USAGE) from None


def _refuse_foreign(place: Path, mirror: str) -> None:
    """Stop where the file is somebody else's."""
    if not place.exists():
        return
    notes = place.with_name(f"{place.name}{NOTES}")
    text = (notes if notes.exists() else place).read_text(encoding="utf-8", errors="replace")
    if _mark(mirror) not in text.partition("\n")[0]:
        raise Stop(
            f"{place} is there and was not made for {mirror}: write elsewhere and merge the two by hand, "
            "or move it away",
            Exit.USAGE,
        )


def _replace(place: Path, text: str) -> None:
    """In one step: who reads it meanwhile has the old one or the new one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=place.parent, prefix=".", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            Path(file.name).replace(place)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
