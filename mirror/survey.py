"""Survey: what a batch's tags and what is associated with them are made of, and where it may be missing.

The ledger is asked once for all tags of the batch, not for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mirror.associates import associates, digest_tags_of, is_signed, listed_for
from mirror.companions import are_in_place
from mirror.graph import GraphError
from mirror.ledger.batches import Associate, OutcomeState, Resolved
from mirror.ledger.sources import Listed
from mirror.plan import BlobWork, blob_work
from mirror.stage import Stage
from mirror.threads import Crew
from mirror.waits import failure
from registry.descriptor import Descriptor
from registry.errors import RegistryError, Transient

Found = list[tuple[Descriptor, list[str]]]
"""Blobs, with the targets that may miss them."""
Asked = tuple[Resolved, tuple[str, ...]]
"""A tag, and the digests whose associates travel with it."""
Associated = list[Associate] | RegistryError | GraphError
"""What is associated with an image."""
Surveyed = tuple[Resolved, Found | RegistryError | GraphError]


def survey(stage: Stage) -> list[BlobWork]:
    """Walk the graph of every tag that is missing somewhere: which blobs have to be looked at where.

    A tag whose graph is not to be had has failed.
    """
    wanted: dict[str, Found] = {}
    with stage.engine.crew() as crew:
        own = crew.map(lambda one: (one, _survey_tag(stage, one)), stage.tags)
        _sort_out(stage, own, wanted)
        _sort_out(stage, _survey_associates(stage, crew), wanted)
    work = blob_work([blob for found in wanted.values() for blob in found])
    stage.progress.add(planned_bytes=sum(one.size for one in work))
    return work


def _sort_out(stage: Stage, surveyed: Iterable[Surveyed], wanted: dict[str, Found]) -> None:
    """Add to what is ``wanted`` for each tag; nothing is, where a part of it is not to be had."""
    for one, found in surveyed:
        if isinstance(found, Exception):
            _fail(stage, one, found)
            wanted.pop(one.tag, None)
        else:
            wanted.setdefault(one.tag, []).extend(found)


def _survey_tag(stage: Stage, one: Resolved) -> Found | RegistryError | GraphError:
    missing = _targets_in(stage, one, "missing")
    if one.descriptor is None or not missing:
        return []
    try:
        graph = stage.graph(one.descriptor.digest)
    except (RegistryError, GraphError) as error:
        return error
    if stage.spec.platforms:
        _note(stage, one, left_out=graph.platforms_left_out)
    return [(blob, missing) for blob in graph.blobs]


def _survey_associates(stage: Stage, crew: Crew) -> Iterator[Surveyed]:
    """The same for what is associated with the tags; it is noted in the ledger what that is.

    Tags at the same image are asked about once.
    """
    tags = stage.tags if stage.spec.referrers else ()
    about = [(one, digests) for one in tags if (digests := _asked_about(stage, one))]
    if not about:
        return
    told = listed_for(stage.engine, stage.run, _digests(about), stage.source)
    asked = _worth_asking(stage, about, told)
    distinct = list(dict.fromkeys(digests for _, digests in asked))
    answers = dict(
        zip(distinct, crew.map(lambda digests: _associated(stage, digests, told.tags), distinct), strict=True)
    )
    _as_said(stage, asked, answers)
    _note_signed(stage, about, answers, told)
    stage.accompanied |= _accompanied(stage, crew, asked, answers)
    lacking = {one.tag: names for one, _ in asked if (names := _lacking(stage, one))}
    wanting = list(dict.fromkeys(digests for one, digests in asked if one.tag in lacking))
    found = crew.map(lambda digests: _blobs(stage, answers[digests]), wanting)
    blobs = dict(zip(wanting, found, strict=True))
    noted: dict[str, list[Associate]] = {}
    surveyed: list[Surveyed] = []
    for one, digests in asked:
        if one.tag not in lacking:
            continue
        answer, own = answers[digests], blobs[digests]
        if isinstance(answer, Exception):
            surveyed.append((one, answer))
        elif isinstance(own, Exception):
            surveyed.append((one, own))
        else:
            noted[one.tag] = answer
            surveyed.append((one, [(blob, lacking[one.tag]) for blob in own]))
    if noted:
        stage.associates = stage.engine.ledger.batches.add_associates(stage.batch, noted)
    yield from surveyed


def _as_said(stage: Stage, asked: Sequence[Asked], answers: dict[tuple[str, ...], Associated]) -> None:
    """Where the source is away: what it has told another region for this batch it need not say again."""
    if any(isinstance(answer, Transient) for answer in answers.values()):
        known = stage.engine.ledger.batches.surveyed(stage.batch)
        for one, digests in asked:
            if isinstance(answers[digests], Transient) and one.tag in known:
                answers[digests] = known[one.tag]


def _note_signed(
    stage: Stage, about: Sequence[Asked], answers: Mapping[tuple[str, ...], Associated], told: Listed
) -> None:
    """Also of tags that were not asked about, because the source's list shows no digest tags of theirs."""
    for one, digests in about:
        answer = answers.get(digests, [] if told.tags is not None else None)
        if isinstance(answer, list):
            _note(stage, one, signed=is_signed(digests[0], answer))


def _accompanied(
    stage: Stage, crew: Crew, asked: Sequence[Asked], answers: Mapping[tuple[str, ...], Associated]
) -> set[tuple[str, str]]:
    """Current tags, by target, whose companions are all there; tags at the same image are looked at once."""
    current = {
        (one.tag, name): digests for one, digests in asked for name in _targets_in(stage, one, "current")
    }
    looks = list(dict.fromkeys((digests, name) for (_, name), digests in current.items()))

    def look(digests: tuple[str, ...], name: str) -> bool:
        answer = answers[digests]
        return isinstance(answer, list) and are_in_place(stage, answer, name)

    there = dict(zip(looks, crew.map(lambda at: look(*at), looks), strict=True))
    return {(tag, name) for (tag, name), digests in current.items() if there[digests, name]}


def _lacking(stage: Stage, one: Resolved) -> list[str]:
    """Targets that may miss something of what travels with the tag."""
    alive = _targets_in(stage, one, "missing", "current")
    return [name for name in alive if (one.tag, name) not in stage.accompanied]


def _associated(stage: Stage, digests: Sequence[str], listed: frozenset[str] | None) -> Associated:
    try:
        return associates(stage.engine, stage.run, stage.source, digests, listed)
    except (RegistryError, GraphError) as error:
        return error


def _blobs(stage: Stage, found: Associated) -> list[Descriptor] | RegistryError | GraphError:
    """Of manifests that a quiet run does not read: a source may count that."""
    if isinstance(found, Exception):
        return found
    try:
        return [blob for own in found for blob in stage.graph(own.descriptor.digest).blobs]
    except (RegistryError, GraphError) as error:
        return error


def _asked_about(stage: Stage, one: Resolved) -> tuple[str, ...]:
    """Digests whose associates travel with the tag; of one that moves nowhere the root alone."""
    if one.descriptor is None or not _targets_in(stage, one, "missing", "current"):
        return ()
    digest = one.descriptor.digest
    if not _targets_in(stage, one, "missing"):
        return (digest,)
    children = [manifest.digest for manifest in stage.graph(digest).manifests]
    return (digest, *(child for child in children if child != digest))


def _digests(about: Sequence[Asked]) -> Iterable[str]:
    return dict.fromkeys(digest for _, asked in about for digest in asked)


def _worth_asking(stage: Stage, about: Sequence[Asked], told: Listed) -> list[Asked]:
    """An unchanged tag is asked for new signatures only where that is known to be of use or is free."""
    asked: list[Asked] = []
    unsure: list[Asked] = []
    for one, digests in about:
        has_tags = any(name in (told.tags or ()) for name in digest_tags_of(digests[0]))
        is_moving = _targets_in(stage, one, "missing")
        (asked if is_moving or has_tags else unsure).append((one, digests))
    return asked + unsure if told.has_referrers else asked


def _targets_in(stage: Stage, one: Resolved, *states: OutcomeState) -> list[str]:
    """Without those whose tag the ledger is believed to be current: nothing is asked about them."""
    known = {name: stage.outcomes[one.tag, name] for name in stage.targets}
    return [name for name, o in known.items() if o.state in states and (o.state != "current" or o.at)]


def _note(stage: Stage, one: Resolved, **facts: Any) -> None:
    """Of its image, in every target that the tag was looked for."""
    for name in _targets_in(stage, one, "missing", "current"):
        stage.outcomes[one.tag, name] = replace(stage.outcomes[one.tag, name], **facts)


def _fail(stage: Stage, one: Resolved, error: Exception) -> None:
    """The tag cannot be landed anywhere in this region: its graph is not to be had."""
    for name in _targets_in(stage, one, "missing", "current"):
        known = stage.outcomes[one.tag, name]
        stage.outcomes[one.tag, name] = failure(stage.engine, stage.batch, error, known.previous)
