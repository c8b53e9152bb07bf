"""What travels with an image that is current: asked for before any of it is put again."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.ledger.batches import Associate
from mirror.stage import Stage
from registry.errors import NotFound, RegistryError
from registry.repository import Repository


def are_in_place(stage: Stage, companions: Iterable[Associate], name: str) -> bool:
    """Whether the target ``name`` has each of them, where its users look for it.

    A HEAD for each; one list for each subject of referrers besides, because a registry may hold a manifest
    that it does not list. What cannot be told is not in place. For whoever repairs nothing is.
    """
    if stage.spec.kind == "repair":
        return False
    target, subjects = stage.targets[name], dict[str, set[str]]()
    try:
        for one in companions:
            if not is_there(stage, target, one):
                return False
            if not one.tag:
                subjects.setdefault(one.subject, set()).add(one.descriptor.digest)
        return all(wanted <= _listed(stage, target, subject) for subject, wanted in subjects.items())
    except RegistryError:
        return False


def is_there(stage: Stage, target: Repository, one: Associate) -> bool:
    """Whether it needs no PUT; RegistryError where that cannot be told.

    A side of a two-way mirror that has a digest tag of its own keeps it.
    """
    try:
        name = one.tag or one.descriptor.digest
        held = stage.engine.patience.attempt(lambda: target.resolve(name)).digest
    except NotFound:
        return False
    return stage.spec.two_way or held == one.descriptor.digest


def _listed(stage: Stage, target: Repository, subject: str) -> set[str]:
    return {one.digest for one in stage.engine.patience.attempt(lambda: target.referrers(subject))}
