"""Seal: with every blob in place, put a batch's manifests by digest, children before parents.

After it a target holds everything of each tag that is recorded as landed (G1); no tag has moved. The root of
a tag that goes to one target only is left to the flip, which puts the same bytes under the tag: no other
target waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mirror.graph import Graph, GraphError
from mirror.ledger.batches import BEFORE_FLIP, Associate, Outcome, Outcomes, Placing
from mirror.report import Moved
from mirror.stage import Stage
from mirror.waits import failure, placing_failure
from registry.descriptor import Descriptor
from registry.errors import NotFound, Refused, RegistryError
from registry.manifest import Manifest
from registry.repository import Repository

logger = logging.getLogger(__name__)
CONTENT_UNKNOWN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
"""A registry says that it lacks what we believed it to have (distribution-spec 1.1, error codes)."""


def seal(stage: Stage) -> None:
    """Put the manifests of every tag whose blobs are all there; record what landed and what failed."""
    known, associates, now = stage.outcomes, stage.associates, stage.now
    with stage.engine.crew() as crew:
        sealed = {
            (one.tag, name): crew.submit(
                _seal_tag,
                stage,
                wanted.digest,
                target,
                known[one.tag, name],
                associates.get(one.tag, []),
            )
            for one, wanted, name, target in stage.pairs
            if (one.tag, name) in known and _open(stage, one.tag, name)
        }
        outcomes = {pair: _proved(answer.result().like(known[pair]), now) for pair, answer in sealed.items()}
    outcomes |= _accounts(stage, outcomes)
    stage.outcomes.update(outcomes)
    landed = sum(outcome.state == "landed" for outcome in outcomes.values())
    stage.end("landed", (*BEFORE_FLIP, "current"), tags_landed=landed)


def _open(stage: Stage, tag: str, name: str) -> bool:
    state = stage.outcomes[tag, name].state
    lacks_some = tag in stage.associates and (tag, name) not in stage.accompanied
    return state == "missing" or (state == "current" and lacks_some)


def _seal_tag(
    stage: Stage,
    digest: str,
    target: Repository,
    outcome: Outcome,
    associates: list[Associate],
) -> Outcome:
    """One tag in one target: its own graph where it is missing, then what is associated with it."""
    try:
        if outcome.state == "missing":
            put_graph(stage, target, stage.graph(digest), None if stage.is_alone else "")
        for associate in associates:
            with forgiving(stage, associate, target):
                graph = stage.graph(associate.descriptor.digest)
                indexed = put_graph(stage, target, graph)
                if not indexed and not associate.tag:
                    _list_referrer(stage, target, associate.subject, graph.root)
    except (RegistryError, GraphError) as error:
        return failure(stage.engine, stage.batch, error, outcome.previous)
    except BlobMissing as missing:
        return placing_failure(stage.engine, stage.batch, missing.placing, outcome.previous)
    if outcome.state == "current":
        return outcome
    return replace(outcome, state="landed")


def _proved(outcome: Outcome, at: float) -> Outcome:
    return replace(outcome, at=at) if outcome.state == "landed" else outcome


class BlobMissing(Exception):
    """A blob that a graph needs could not be brought; ``placing`` says why."""

    def __init__(self, placing: Placing) -> None:
        super().__init__(placing)
        self.placing = placing


def _is_out_of_reach(error: RegistryError | GraphError | BlobMissing, target: Repository) -> bool:
    is_unknown = isinstance(error, Refused) and error.code in CONTENT_UNKNOWN
    if is_unknown or isinstance(error, GraphError | NotFound):
        return True
    return (error.placing.end if isinstance(error, BlobMissing) else error.end) != target.host


@contextmanager
def forgiving(stage: Stage, associate: Associate, target: Repository) -> Iterator[None]:
    """A rollback moves an image also where a target lacks what belongs to it, and nobody can bring that.

    A target that refuses it, or may take it later, is no such reason.
    """
    try:
        yield
    except (RegistryError, GraphError, BlobMissing) as error:
        if stage.spec.kind != "rollback" or not _is_out_of_reach(error, target):
            raise
        why = error.placing.reason if isinstance(error, BlobMissing) else error
        fields = {"batch": stage.batch, "target": target.name, "registry": target.host}
        name = associate.tag or associate.descriptor.digest
        logger.warning("%s of %s is not in %s: %s", name, associate.subject, target.name, why, extra=fields)


def put_graph(stage: Stage, target: Repository, graph: Graph, root_as: str | None = "") -> bool:
    """Put all manifests, the root last; returns whether the registry indexes the root's subject itself.

    The root goes in by digest, or under the tag ``root_as``; None leaves it out. A registry that turns out to
    lack blobs it was believed to have is given them, once. Raises RegistryError or BlobMissing.
    """
    for blob in graph.blobs:
        placing = stage.placed.get((blob.digest, target.name))
        if placing is not None and placing.how == "failed":
            raise BlobMissing(placing)
    try:
        return _put_manifests(stage, target, graph, root_as, believe=True)
    except Refused as error:
        if error.code not in CONTENT_UNKNOWN:
            raise
        _heal(stage, target, graph)
    try:
        return _put_manifests(stage, target, graph, root_as, believe=False)
    except Refused as error:
        if error.code in CONTENT_UNKNOWN and graph.left_out:
            raise _sparse(error) from error
        raise


def _sparse(error: Refused) -> Refused:
    reason = "refuses an index without all its platforms: drop `platforms` for this mirror"
    return Refused(error.end, error.what, f"{reason} ({error.reason})", error.status, error.code)


def _put_manifests(
    stage: Stage, target: Repository, graph: Graph, root_as: str | None, *, believe: bool
) -> bool:
    children = [manifest.digest for manifest in graph.manifests if manifest is not graph.root]
    here = stage.seen(target, children) if believe else set()
    for manifest in graph.manifests[:-1]:
        if manifest.digest not in here:
            _put(stage, target, manifest, manifest.digest)
    if root_as is None:
        return True
    return _put(stage, target, graph.root, root_as or graph.root.digest)


def _put(stage: Stage, target: Repository, manifest: Manifest, name: str) -> bool:
    """As put_manifest; what this step has put by its digest already, for another tag, is not put again."""
    with stage.alone_with(target, manifest.digest):
        if name == manifest.digest and manifest.subject is None and stage.has_put(target, name):
            return True
        indexed = stage.engine.patience.attempt(lambda: target.put_manifest(name, manifest))
        stage.saw(target, manifest.digest)
    return indexed


def _heal(stage: Stage, target: Repository, graph: Graph) -> None:
    """Forget what was believed of this target and look at every blob anew."""
    digests = [*(blob.digest for blob in graph.blobs), *(manifest.digest for manifest in graph.manifests)]
    stage.forget(target, digests)
    carrier = stage.carrier()
    for blob in graph.blobs:
        placing = carrier.place_patiently(blob, stage.source, [target])[target.name]
        if placing.how == "failed":
            raise BlobMissing(placing)


def _list_referrer(stage: Stage, target: Repository, subject: str, referrer: Manifest) -> None:
    """Merge into the tag-schema index, one worker at a time (distribution-spec 1.1 leaves a race here)."""
    with stage.engine.ledger.content.leases.turn(f"referrers {target.name}", subject):
        stage.engine.patience.attempt(lambda: target.add_referrer(subject, referrer.descriptor))


def _accounts(stage: Stage, outcomes: Outcomes) -> Outcomes:
    """Say for each tag and target what came how; a blob counts for the first tag that needs it."""
    accounted: Outcomes = {}
    counted: set[tuple[str, str]] = set()
    for (tag, name), outcome in outcomes.items():
        if outcome.state != "landed":
            continue
        digest = next(one.descriptor.digest for one in stage.tags if one.tag == tag and one.descriptor)
        moved = Moved()
        for blob in stage.graph(digest).blobs:
            placing = stage.placed.get((blob.digest, name), Placing("present"))
            first = (blob.digest, name) not in counted
            counted.add((blob.digest, name))
            moved += _moved(blob, placing.how if first else "present")
        accounted[tag, name] = replace(outcome, moved=moved)
    return accounted


def _moved(blob: Descriptor, how: str) -> Moved:
    if how == "copied":
        return Moved(copied_bytes=blob.size, copied_blobs=1)
    if how == "mounted":
        return Moved(mounted_bytes=blob.size, mounted_blobs=1)
    return Moved(present_bytes=blob.size, present_blobs=1)
