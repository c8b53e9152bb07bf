"""What a run of a mirror would do, found out by reading only: ``sealift plan``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import InitVar, asdict, dataclass, field
from typing import Any, Literal

from mirror.created import created_in
from mirror.select import Choice, Selection
from mirror.spec import MirrorSpec
from registry.errors import NotFound, RegistryError, Throttled, Unauthorized, Unreachable
from registry.repository import Repository

State = Literal["current", "move", "new", "missing", "error"]
"""``move``: the target has another digest under the tag; ``missing``: the source has no such tag."""

PATIENCE = 3
"""After so many failures in a row that are about the registry, not the tag, it is not asked again."""


@dataclass(frozen=True, slots=True)
class TargetPreview:
    """One tag in one target."""

    repository: str
    region: str
    state: State
    previous: str | None = None
    """The digest that the tag has in the target today."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TagPreview:
    """One tag that would be mirrored."""

    tag: str
    source: str
    """The tag or digest it is taken from."""
    digest: str | None
    """Its digest at the source; None if the source lacks it or did not say."""
    targets: tuple[TargetPreview, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """One mirror: its selected tags, and the others with the rule that dropped each."""

    mirror: str
    source: str
    tags: tuple[TagPreview, ...]
    dropped: tuple[tuple[str, str], ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many (tag, target) are in each state; states without any are left out."""
        return dict(Counter(target.state for tag in self.tags for target in tag.targets))

    @property
    def is_current(self) -> bool:
        return self.counts.keys() <= {"current"}

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "counts": self.counts}


def preview(spec: MirrorSpec, open_repository: Callable[[str], Repository], threads: int = 8) -> Preview:
    """List the source if need be, select, and HEAD every selected tag at the source and every target.

    What goes wrong with one tag or at one target is in that one's state. Raises RegistryError only if the
    source cannot be listed, or dated for ``newest_by: created``; ValueError for a malformed selection.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="preview") as pool:
        source = _End(spec.source, open_repository)
        ends = [_End(target.repository, open_repository) for target in spec.targets]
        pairs, dropped = _wanted(spec, source, pool)
        tags = tuple(pool.map(lambda pair: _look(spec, source, ends, *pair), pairs))
    return Preview(spec.name, spec.source, tags, dropped)


def preview_of_one(spec: MirrorSpec, open_repository: Callable[[str], Repository]) -> Preview:
    """The same; that one of many repositories cannot be listed is no reason to say nothing of the others."""
    try:
        return preview(spec, open_repository)
    except RegistryError as error:
        if not spec.rest:
            raise
        reason = f"source: {error}"
        targets = (TargetPreview(t.repository, t.region, "error", None, reason) for t in spec.targets)
        return Preview(spec.name, spec.source, (TagPreview("", "", None, tuple(targets)),))


def _wanted(
    spec: MirrorSpec, source: _End, pool: ThreadPoolExecutor
) -> tuple[list[tuple[str, str]], tuple[tuple[str, str], ...]]:
    """The (target tag, source tag or digest) pairs, and the dropped tags."""
    if spec.refs:
        return list(spec.refs), ()
    selection = Selection.of(spec)
    literals = selection.literals()
    if literals is not None:
        return [(tag, tag) for tag in literals], ()
    repository = source.repository()
    choice: Choice = selection.choose(_listed(repository), created_in(repository), pool.map)
    kept = dict.fromkeys((*choice.kept, *selection.exact))  # a tag named exactly may be missing: say so
    return [(tag, tag) for tag in kept], choice.dropped


def _listed(repository: Repository) -> Iterator[str]:
    pages: Iterable[list[str]] = repository.tags()
    for page in pages:
        yield from page


def _look(spec: MirrorSpec, source: _End, ends: list[_End], tag: str, wanted: str) -> TagPreview:
    there = source.digest(wanted)
    if isinstance(there, RegistryError):
        reason = f"source: {there}"
        targets = (TargetPreview(t.repository, t.region, "error", None, reason) for t in spec.targets)
        return TagPreview(tag, wanted, None, tuple(targets))
    found = tuple(
        _compared(there, end.digest(tag) if there else None, target.repository, target.region)
        for target, end in zip(spec.targets, ends, strict=True)
    )
    return TagPreview(tag, wanted, there, found)


def _compared(
    there: str | None, here: str | RegistryError | None, repository: str, region: str
) -> TargetPreview:
    if there is None:
        return TargetPreview(repository, region, "missing", reason="the source has no such tag")
    if isinstance(here, RegistryError):
        return TargetPreview(repository, region, "error", reason=str(here))
    if here is None:
        return TargetPreview(repository, region, "new")
    return TargetPreview(repository, region, "current" if here == there else "move", here)


@dataclass(slots=True)
class _End:
    """One repository, given up on once its registry is out of reach: not every tag waits for a timeout.

    Threads share it; a lost update of the count costs one more request.
    """

    name: str
    opener: InitVar[Callable[[str], Repository]]
    opened: Repository | RegistryError = field(init=False)
    failures: int = 0
    last: RegistryError | None = None

    def __post_init__(self, opener: Callable[[str], Repository]) -> None:
        try:
            self.opened = opener(self.name)
        except RegistryError as error:
            self.opened = error

    def repository(self) -> Repository:
        """Raise the RegistryError that kept it from being opened."""
        if isinstance(self.opened, RegistryError):
            raise self.opened
        return self.opened

    def digest(self, tag_or_digest: str) -> str | RegistryError | None:
        """By HEAD; None where there is no such tag; an error as a value."""
        if self.last is not None and self.failures >= PATIENCE:
            return self.last
        try:
            digest = self.repository().resolve(tag_or_digest).digest
        except NotFound:
            digest = None
        except (Unreachable, Throttled, Unauthorized) as error:
            self.failures += 1
            self.last = error
            return error
        except RegistryError as error:
            return error
        self.failures = 0
        return digest
