"""A source that other registries of the mirror stand in for while it cannot be asked, by digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mirror.several import Failures, Several
from registry.descriptor import Descriptor, is_digest
from registry.errors import RegistryError, Transient
from registry.manifest import Manifest
from registry.repository import Repository, Source


class Backed(Several):
    """The source; what it cannot be asked for now comes from others that hold it.

    What tags are and what refers to what is the source's to say. What it denies having is not looked for
    elsewhere; what the others do not have either fails as it does at the source.
    """

    def __init__(
        self,
        source: Source,
        others: Sequence[str],
        opened: Callable[[str], Repository],
        *,
        is_down: bool = False,
        holders: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        """``others``: ``host/repository``, the nearest first, as they are to be ``opened``.

        ``is_down``: they are asked first. ``holders``: of the others those that are known to hold a
        manifest, by its digest, and are better asked for it than the source.
        """
        super().__init__()
        self._source, self._others = source, {name: opened(name) for name in others}
        self._prefers_others, self._holders = is_down, holders

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def host(self) -> str:
        return self._source.host

    def tags(self, last: str | None = None) -> Iterator[list[str]]:
        return self._source.tags(last)

    def resolve(self, tag_or_digest: str) -> Descriptor:
        return self._source.resolve(tag_or_digest)

    def referrers(self, digest: str, *, has_tag: bool = True) -> list[Descriptor]:
        return self._source.referrers(digest, has_tag=has_tag)

    def blob_size(self, digest: str) -> int:
        return self._source.blob_size(digest)

    def manifest(self, tag_or_digest: str) -> Manifest:
        """See Source; of a digest from whoever has it."""
        if not is_digest(tag_or_digest):
            return self._source.manifest(tag_or_digest)
        holders = [self._others[name] for name in self._holders(tag_or_digest)]
        return self._ask(tag_or_digest, lambda one: one.manifest(tag_or_digest), holders)

    def _in_order(self) -> Sequence[Source]:
        others = self._others.values()
        return (*others, self._source) if self._prefers_others else (self._source, *others)

    def _failed(self, place: Source, error: RegistryError) -> bool:
        if place is not self._source:
            return True
        if not isinstance(error, Transient):
            raise error
        self._prefers_others = True  # the next content does not wait for it again
        return False

    def _worst(self, failures: Failures) -> RegistryError:
        """The source's own: it is asked, whoever else was."""
        return failures[self.name]
