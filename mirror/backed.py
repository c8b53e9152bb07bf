"""A source that other registries of the mirror stand in for while it cannot be asked, by digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from registry.descriptor import Descriptor, is_digest
from registry.errors import RegistryError, Transient
from registry.manifest import Manifest
from registry.repository import Repository, Source


class Backed:
    """The source; what it cannot be asked for now comes from others that hold it. Thread-safe.

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
        """``others``: ``host/repository``, the nearest first, to be ``opened`` when needed.

        ``is_down``: they are asked first. ``holders``: of the others those that are known to hold a
        manifest, by its digest, and are better asked for it than the source.
        """
        self._source, self._names, self._opened = source, tuple(others), opened
        self._prefers_others, self._holders = is_down, holders
        self._lacking: set[tuple[str, str]] = set()

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
        failure: RegistryError | None = None
        for name in self._in_order(tag_or_digest, self._holders(tag_or_digest)):
            try:
                return self._place(name).manifest(tag_or_digest)
            except RegistryError as error:
                failure = self._failed(name, tag_or_digest, error, failure)
        raise _certain(failure)

    def open_blob(
        self, blob: Descriptor, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes | memoryview]]:
        """As Source's; where one breaks off, the next goes on from there."""
        return self._opening(blob, offset)

    @contextmanager
    def _opening(self, blob: Descriptor, offset: int) -> Iterator[Iterator[bytes | memoryview]]:
        with ExitStack() as stack:
            yield self._blocks(stack, blob, offset)

    def _blocks(self, stack: ExitStack, blob: Descriptor, at: int) -> Iterator[bytes | memoryview]:
        failure: RegistryError | None = None
        for name in self._in_order(blob.digest, ()):
            try:
                for block in stack.enter_context(self._place(name).open_blob(blob, at)):
                    at += len(block)
                    yield block
            except RegistryError as error:
                failure = self._failed(name, blob.digest, error, failure)
            else:
                return
        raise _certain(failure)

    def _place(self, name: str) -> Source:
        return self._opened(name) if name else self._source

    def _in_order(self, digest: str, holders: Sequence[str]) -> list[str]:
        """Who is to be asked, each if those before fail: the source (empty) and who did not lack it yet."""
        first = self._names if self._prefers_others else holders
        names = dict.fromkeys((*first, "", *self._names))
        return [name for name in names if (name, digest) not in self._lacking]

    def _failed(
        self, name: str, digest: str, error: RegistryError, before: RegistryError | None
    ) -> RegistryError:
        """The failure that counts so far: the source's own. Raises it where nobody else can help."""
        if name:
            self._lacking.add((name, digest))
            return before or error
        if not isinstance(error, Transient):
            raise error
        self._prefers_others = True  # the next content does not wait for it again
        return error


def _certain(failure: RegistryError | None) -> RegistryError:
    assert failure is not None  # noqa: S101 - the source is always asked
    return failure
