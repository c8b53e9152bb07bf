"""Which tags of a region's targets are none of the mirror's, by comparing lists of tags."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.ledger.batches import Outcome
from mirror.ledger.verified import MOST_NAMED
from mirror.report import ExtraReport
from mirror.select import Selection, is_digest_tag, is_keeper_tag
from mirror.spec import MirrorSpec
from mirror.stage import Stage
from mirror.waits import failure
from registry.errors import NotFound, RegistryError
from registry.repository import Repository, Source


def compare_tags(stage: Stage) -> None:
    """List the source and each target, and note what only a target has.

    Not extra are tags beyond the ``newest`` of a mirror, which it has brought once, and those that belong
    to others by their names: signatures, lists of referrers, our own keepers. All tags of the source are
    in memory at a time.
    """
    found = _compared(stage)
    for name, one in found.items():
        # Of no tag: it has the batch come back where a registry is away for a while.
        stage.outcomes["", name] = _outcome(stage, one)
    stage.engine.ledger.verified.note_extra(
        stage.run,
        stage.batch,
        stage.spec,
        [
            one if isinstance(one, ExtraReport) else ExtraReport(name, error=stage.outcomes["", name].reason)
            for name, one in found.items()
        ],
    )


def _compared(stage: Stage) -> dict[str, ExtraReport | RegistryError]:
    try:
        wanted = frozenset(_all(stage, stage.source))
    except RegistryError as error:
        return dict.fromkeys(stage.targets, error)
    with stage.engine.crew() as crew:
        answers = crew.map(lambda one: _extra(stage, wanted, *one), stage.targets.items())
        return dict(zip(stage.targets, answers, strict=True))


def _outcome(stage: Stage, found: ExtraReport | RegistryError) -> Outcome:
    if isinstance(found, ExtraReport):
        return Outcome("current", at=stage.view.now)
    return failure(stage.engine, stage.batch, found)


def _extra(
    stage: Stage, wanted: frozenset[str], name: str, target: Repository
) -> ExtraReport | RegistryError:
    count, names = 0, list[str]()
    try:
        for tag in _all(stage, target):
            if tag not in wanted and not _is_anothers(tag):
                count += 1
                names += [tag] if len(names) < MOST_NAMED else []
    except RegistryError as error:
        return error
    return ExtraReport(name, count, tuple(names))


def _all(stage: Stage, place: Source) -> Iterator[str]:
    """Those of the mirror's tags that are at the source, or all that a target has."""
    chosen = _selection(stage.spec) if place is stage.source else None
    try:
        for page in stage.engine.patience.attempt(lambda: list(place.tags())):
            stage.progress.add()
            yield from chosen.choose(page).kept if chosen else page
    except NotFound:
        if chosen:
            raise


def _selection(spec: MirrorSpec) -> Selection:
    return Selection(spec.include, spec.exclude)


def _is_anothers(tag: str) -> bool:
    return is_digest_tag(tag) or is_keeper_tag(tag)
