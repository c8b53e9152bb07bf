"""Keep: before a tag moves in a target, what it was stays safe there from garbage collection.

A registry's collector takes what no tag names. So the former image gets a tag of its own in a ring of slots,
which later moves reuse: nothing ever has to be deleted. The children of an index get theirs too, because CNCF
distribution up to 2.8 takes them from below a tagged index.
"""

from __future__ import annotations

import logging

from mirror.ledger.batches import Outcome
from mirror.manifests import Manifests
from mirror.seal import CONTENT_UNKNOWN
from mirror.select import keeper_tag
from mirror.stage import Stage
from registry.errors import NotFound, Refused
from registry.manifest import Manifest
from registry.repository import Repository

logger = logging.getLogger(__name__)
MAX_DEPTH = 4


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
    slot = keeps.take(name, tag, wanted, stage.spec.keep, manifests)
    for child, manifest in enumerate(manifests[1:]):
        _put(stage, target, keeper_tag(tag, slot, child), manifest)
    if not _put(stage, target, keeper_tag(tag, slot), manifests[0]):
        fields = {"batch": stage.batch, "tag": tag, "target": name, "registry": target.host}
        logger.warning("what %s was in %s is damaged and cannot be kept", tag, name, extra=fields)


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
