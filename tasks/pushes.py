"""What follows from a push that a registry tells of: a run of just that tag, of each mirror that wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from config.fleet import Fleet
from mirror.ledger.pushes import LANE, Asked
from mirror.select import Selection, is_digest_tag, is_keeper_tag
from mirror.spec import MirrorSpec
from registry.deletion import is_tombstone
from tasks import canvas
from tasks.runtime import Runtime
from tasks.watched import specs_of


@dataclass(frozen=True, slots=True)
class Push:
    """What a registry says was pushed."""

    repository: str
    """In full, as references name it."""
    tag: str = ""
    """Empty: it does not say which."""
    digest: str = ""
    """Empty: it does not say so."""
    has_below: bool = False
    """Whether it may have been any repository below that one, too."""
    delivery: str = ""
    """By what a copy of the same news is known; empty: by nothing."""

    @property
    def travels(self) -> bool:
        """Whether the tag is no image of its own: a signature, a keeper tag, one that is being deleted."""
        return (
            is_digest_tag(self.tag)
            or is_keeper_tag(self.tag)
            or is_tombstone(self.repository, self.tag, self.digest)
        )


class Wanted:
    """What a fleet file wants to hear of."""

    def __init__(self, fleet: Fleet) -> None:
        self._specs = specs_of(fleet)

    def knows(self, push: Push) -> bool:
        """Whether any mirror reads or writes the repository."""
        return any(_is_at(place, push) for spec in self._specs for place in _places(spec))

    def specs(self, push: Push) -> Iterator[MirrorSpec]:
        """What is to be run: the tag alone, or all of a mirror where it cannot be told without the others."""
        for spec in self._specs:
            read = [target.repository for target in spec.targets] if spec.is_two_way else [spec.source]
            if any(_is_at(place, push) for place in read):
                narrowed = _narrowed(spec, push)
                if narrowed is not None:
                    yield narrowed


def _places(spec: MirrorSpec) -> list[str]:
    own = [] if spec.is_two_way else [spec.source]
    return [*own, *(target.repository for target in spec.targets)]


def _is_at(place: str, push: Push) -> bool:
    """Whether a repository, or one that a wildcard stands for, is what was pushed to."""
    if place.endswith("/*"):
        prefix = place.removesuffix("*")
        return push.repository.startswith(prefix) or (
            push.has_below and f"{push.repository}/".startswith(prefix)
        )
    return place == push.repository or (push.has_below and place.startswith(f"{push.repository}/"))


def _narrowed(spec: MirrorSpec, push: Push) -> MirrorSpec | None:
    """None where the mirror does not take it."""
    if spec.is_wildcard and not push.has_below:
        if not spec.takes(spec.rest_of(push.repository)):
            return None
        spec = spec.of(push.repository)
    if not push.tag:
        return spec
    if not Selection(spec.include, spec.exclude).choose([push.tag]).kept:
        return None
    if spec.newest is not None and push.tag not in Selection.of(spec).exact:
        return spec  # which are the newest only the whole list says
    return replace(spec, refs=((push.tag, push.tag),))


def follow(rt: Runtime, spec: MirrorSpec, push: Push) -> Asked:
    """See to it that a run looks at what was pushed. LedgerError, or kombu's OperationalError.

    Where either is raised this may be asked again: nothing is done twice.
    """
    tag = push.tag if spec.refs else ""
    asked = rt.ledger.pushes.ask(spec, tag, push.repository, push.digest)
    if asked.how == "begins":
        canvas.send_enumerate(rt.ledger, asked.run)
    return asked


def send_follower(rt: Runtime, run: str) -> None:
    """Where the run has ended: the one that has waited for that begins."""
    if rt.ledger.lane(run) != LANE:
        return
    behind = rt.ledger.pushes.follower(run)
    if behind is not None:
        canvas.send_enumerate(rt.ledger, behind)
