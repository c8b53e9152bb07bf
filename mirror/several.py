"""What goes by digest from one of several places: one is asked after the other, until one has it.

Who sends wrong bytes is passed over, and named: the others may have the right ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TypeVar

from mirror.telling import tell_passed_over
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, RegistryError
from registry.repository import Source

T = TypeVar("T")
Failures = dict[str, RegistryError]
"""By the name of the place."""


class Several(ABC):
    """In which order they are asked and whose failure counts is for its subclasses to say.

    Thread-safe, as long as each blob is read by one thread at a time.
    """

    def __init__(self) -> None:
        self._lacking: dict[str, Failures] = {}
        """By digest: who is not asked for that any more, and why."""
        self._sent: dict[str, list[Source]] = {}
        """By digest: who sent of the blob, one after the other."""
        self._mixed: set[str] = set()
        self._passed: set[str] = set()

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def host(self) -> str: ...

    @abstractmethod
    def _in_order(self) -> Sequence[Source]:
        """Who may be asked, each if those before fail."""

    @abstractmethod
    def _failed(self, place: Source, error: RegistryError) -> bool:
        """Hear why a place did not give what was asked for; whether it is to be asked for that no more.

        Raises the error where no other can help.
        """

    @abstractmethod
    def _worst(self, failures: Failures) -> RegistryError:
        """Of the failures of all the one that counts."""

    def _served(self, place: Source) -> None:  # noqa: B027 - not all need to hear it
        """Hear who gives what was asked for."""

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, digest: str, question: Callable[[Source], T], first: Sequence[Source] = ()) -> T:
        """``first``: who is asked before all others."""
        failures = self._known(digest)
        for place in self._left(digest, first):
            try:
                answer = question(place)
            except RegistryError as error:
                self._pass_over(place, digest, error)
                failures[place.name] = error
            else:
                self._served(place)
                return answer
        raise self._worst(failures)

    def open_blob(
        self, blob: Descriptor, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes | memoryview]]:
        """As Source's; where one breaks off, the next goes on from there."""
        return self._opened(blob, offset)

    @contextmanager
    def _opened(self, blob: Descriptor, offset: int) -> Iterator[Iterator[bytes | memoryview]]:
        with ExitStack() as stack:
            yield self._blocks(stack, blob, offset)

    def _blocks(self, stack: ExitStack, blob: Descriptor, at: int) -> Iterator[bytes | memoryview]:
        failures, sent = self._known(blob.digest), self._sent.setdefault(blob.digest, [])
        if not at:
            sent.clear()
        for place in self._left(blob.digest):
            try:
                for block in stack.enter_context(place.open_blob(blob, at)):
                    if place not in sent[-1:]:
                        sent.append(place)
                        self._served(place)
                    at += len(block)
                    yield block
            except RegistryError as error:
                self._pass_over(place, blob.digest, error)
                failures[place.name] = error
            else:
                return
        raise self._worst(failures)

    def _left(self, digest: str, first: Sequence[Source] = ()) -> list[Source]:
        lacking = self._known(digest)
        return [one for one in dict.fromkeys((*first, *self._in_order())) if one.name not in lacking]

    def _known(self, digest: str) -> Failures:
        return dict(self._lacking.get(digest, {}))

    def _pass_over(self, place: Source, digest: str, error: RegistryError) -> None:
        if self._failed(place, error) or isinstance(error, DigestMismatch):
            self._lacking.setdefault(digest, {})[place.name] = error
        if isinstance(error, DigestMismatch):
            tell_passed_over(error)

    # -- wrong bytes -------------------------------------------------------------------------------

    def sender(self, digest: str) -> Source | Several:
        """Who sent the last of the blob's bytes."""
        place = next(reversed(self._sent.get(digest, ())), self)
        return place.sender(digest) if isinstance(place, Several) and place is not self else place

    def disown(self, digest: str, error: DigestMismatch) -> None:
        """Hear that what was sent as that blob is wrong: who sent it is asked for it no more.

        Where several sent of it, nobody knows whose part is wrong: it is asked for once more, as a whole.
        """
        sent = self._sent.pop(digest, [])
        if not sent:
            return
        if len(sent) > 1 and digest not in self._mixed:
            self._mixed.add(digest)
            self._passed.add(digest)
            return
        place = sent[-1]
        if isinstance(place, Several):
            place.disown(digest, error)
            if place.goes_on(digest):
                self._passed.add(digest)
                return
        with suppress(RegistryError):  # no other can help: the reading has failed with it
            self._pass_over(place, digest, error)
            self._passed.add(digest)

    def goes_on(self, digest: str) -> bool:
        """Whether wrong bytes came since this was asked last, and somebody is left to be asked for others."""
        is_passed = digest in self._passed
        self._passed.discard(digest)
        return is_passed and bool(self._left(digest))
