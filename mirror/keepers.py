"""Keep: before a tag moves in a target, what it was stays safe there from garbage collection.

A registry's collector takes what no tag names. So the former image gets a tag of its own in a ring of slots,
which later moves reuse. The children of an index get theirs too, because CNCF distribution up to 2.8 takes
them from below a tagged index. Only where the ring has become smaller, or an image has less below it than the
one before in its slot, keeper tags are deleted: once the tag has moved, and where the registry deletes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from mirror.ledger.batches import Outcome, Outcomes
from mirror.ledger.keeps import Slot, surplus
from mirror.manifests import Manifests
from mirror.seal import CONTENT_UNKNOWN
from mirror.select import keeper_tag
from mirror.stage import Stage
from registry.deletion import delete_tag
from registry.errors import CannotDelete, NotFound, Refused, RegistryError
from registry.manifest import Manifest
from registry.repository import Repository

logger = logging.getLogger(__name__)
MAX_DEPTH = 4
TURN = "keep in {}"
"""The place of the lease of whoever puts or deletes a tag's keeper tags in a target."""


def keep_previous(stage: Stage, tag: str, name: str, outcome: Outcome, wanted: str) -> None:
    """Have the target hold what the tag is now under a keeper tag; RegistryError where it will not.

    What is damaged there already cannot be kept, and is no reason not to move on.
    """
    if outcome.previous in {None, wanted}:
        return
    target, keeps = stage.targets[name], stage.engine.ledger.keeps
    manifests = _manifests(stage, target, str(outcome.previous))
    if not manifests:
        return
    with stage.engine.ledger.content.leases.turn(TURN.format(name), tag):
        slot = keeps.take(name, tag, wanted, stage.spec.keep or 0, manifests)
        for child, manifest in enumerate(manifests[1:]):
            _put(stage, target, keeper_tag(tag, slot, child), manifest)
        if not _put(stage, target, keeper_tag(tag, slot), manifests[0]):
            fields = {"batch": stage.batch, "tag": tag, "target": name, "registry": target.host}
            logger.warning("what %s was in %s is damaged and cannot be kept", tag, name, extra=fields)


def free_surplus(stage: Stage, moved: Outcomes) -> None:
    """Delete the keeper tags that tags which have moved need no more; what cannot be deleted is reused.

    Not by a run on nobody's entry in a fleet file: what it knows nothing of is a promise of another's.
    """
    if stage.spec.keep is None:
        return
    keeps, most = stage.engine.ledger.keeps, stage.spec.keep
    places = [(name, tag) for (tag, name), one in moved.items() if one.state == "updated" and one.previous]
    wanted = {one.tag: one.descriptor.digest for one in stage.tags if one.descriptor}
    stubborn = set[str]()
    for (name, tag), slots in zip(places, keeps.slots(places) if places else (), strict=True):
        if name in stubborn or not _is_surplus(slots, wanted[tag], most):
            continue
        try:
            with stage.engine.ledger.content.leases.turn(TURN.format(name), tag):
                _free(stage, name, tag, wanted[tag], most)
        except RegistryError as error:
            stubborn |= {name} if isinstance(error, CannotDelete) else set()
            fields = {"batch": stage.batch, "tag": tag, "target": name, "registry": stage.targets[name].host}
            logger.info("keeper tags of %s in %s stay: %s", tag, name, error, extra=fields)


def _is_surplus(slots: Sequence[Slot], now_at: str, most: int) -> bool:
    return bool(surplus(slots, now_at, most)) or any(one.tagged > one.below for one in slots)


def _free(stage: Stage, name: str, tag: str, now_at: str, most: int) -> None:
    """In the turn of whoever keeps: what is surplus now is nobody's."""
    keeps = stage.engine.ledger.keeps
    (slots,) = keeps.slots([(name, tag)])
    gone = surplus(slots, now_at, most)
    for one in slots:
        below = 0 if one in gone else one.below
        for child in range(below, one.tagged):
            _delete(stage, name, keeper_tag(tag, one.number, child))
        if one in gone:
            _delete(stage, name, keeper_tag(tag, one.number))
        if one in gone or one.tagged > below:
            keeps.free(name, tag, one, whole=one in gone)


def _delete(stage: Stage, name: str, keeper: str) -> None:
    with suppress(NotFound):  # by somebody else, or the answer was lost
        stage.engine.patience.attempt(lambda: delete_tag(stage.targets[name], keeper))


def _manifests(stage: Stage, target: Repository, digest: str) -> list[Manifest]:
    """The root and all below it that the target has, from the ledger or from the target; the root first."""
    read = Manifests(stage.engine, target)
    stage.engine.ledger.content.keep_manifests(stage.engine.ledger.keeps.manifests(digest))
    found: dict[str, Manifest] = {}

    def visit(one: str, depth: int) -> None:
        if one in found or depth > MAX_DEPTH:
            return
        try:
            found[one] = read.get(one)
        except NotFound:
            return  # of another platform than the mirror's, or lost
        for child in found[one].children:
            visit(child.digest, depth + 1)

    visit(digest, 1)
    return list(found.values())


def _put(stage: Stage, target: Repository, keeper: str, manifest: Manifest) -> bool:
    """False where the target lacks what the manifest needs; RegistryError for any other reason."""
    with stage.alone_with(target, manifest.digest):
        try:
            stage.engine.patience.attempt(lambda: target.put_manifest(keeper, manifest))
        except Refused as error:
            if error.code in CONTENT_UNKNOWN:
                return False
            reason = f"{error.reason}; so what the tag was cannot be kept, as `keep` of this mirror wants"
            raise Refused(error.end, error.what, reason, error.status, error.code) from error
    return True
