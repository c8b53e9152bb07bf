"""Pinned tags: runs that bring leave them alone, runs that look or mend are about what they are pinned at."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.engine import Engine
from mirror.ledger.batches import Resolved
from mirror.ledger.pins import Pin
from mirror.ledger.values import PINNED
from mirror.ledger.verified import MISSING
from mirror.places import everywhere
from mirror.spec import MirrorSpec
from registry.descriptor import Descriptor
from registry.errors import NotFound, RegistryError


def follows_pins(spec: MirrorSpec) -> bool:
    """Whether a run takes a pinned tag for what it is pinned at, whatever its source or a side has."""
    return spec.kind in {"verify", "repair"}


def unless_pinned(spec: MirrorSpec, one: Resolved, pins: Mapping[str, Pin]) -> Resolved:
    """Left alone, where a rollback has pinned the tag to another digest; other rollbacks may move it."""
    pin = pins.get(one.tag)
    if pin is None or spec.kind == "rollback" or follows_pins(spec):
        return one
    if one.descriptor is not None and one.descriptor.digest == pin.digest:
        return one
    return Resolved(one.tag, one.ref, None, pin.reason, PINNED)


def pinned_at(engine: Engine, run: str, spec: MirrorSpec, pin: Pin) -> Descriptor | RegistryError:
    """The manifest that the tag is pinned at, from the fleet's cache or whoever of the mirror has it."""
    content = engine.ledger.content
    if content.manifest(pin.digest) is None:
        content.keep_manifests(engine.ledger.keeps.manifests(pin.digest))
    if (kept := content.manifest(pin.digest)) is not None:
        return Descriptor(kept.media_type, kept.digest, kept.size)
    places = everywhere(engine, spec, "", engine.open_source(run, spec))
    try:
        return engine.patience.attempt(lambda: places.resolve(pin.digest))
    except RegistryError as error:
        return error


def nowhere(one: Resolved, pin: Pin, error: NotFound) -> Resolved:
    """A tag whose pin cannot be kept: a verifying run finds it missing everywhere."""
    return Resolved(one.tag, one.ref, None, f"{pin.reason}; but {error}", MISSING)
