"""Rehearsal: what a run would ask and move, counted while its steps are taken against registries.

The repositories that the steps see are in :mod:`mirror.rehearsed`. So a plan decides nothing itself: what
the engine does is what is counted, today and after its next change.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from mirror.engine import Lister, Opener
from mirror.tally import Request, Tally
from registry.descriptor import Descriptor
from registry.errors import NotFound, Refused, RegistryError, Transient, Unauthorized
from registry.manifest import Manifest
from registry.reference import LAYOUT, Wildcard
from registry.repository import Repository, RepositoryPage

T = TypeVar("T")
MOST_REMEMBERED = 100_000
"""Answers and writes that are kept in mind; what falls out is asked for again."""
MayRead = Callable[[str, str], bool]
"""Whether a manifest may be read: (registry, digest or tag)."""


PATIENCE = 6
"""After so many failures in a row that are about the registry, not the tag, it is not asked again."""


class Withheld(Refused):
    """A manifest that the rehearsal does not read: its registry counts reading."""


class Ear:
    """What this thread's requests were: an observer for :class:`registry.connections.Connections`."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self, method: str, kind: str, status: int) -> None:
        heard: list[tuple[Request, int]] | None = getattr(self._local, "heard", None)
        if heard is not None:
            heard.append(((method, kind), status))

    @contextmanager
    def listening(self) -> Iterator[list[tuple[Request, int]]]:
        """Everything that this thread asks meanwhile: ((method, kind), status)."""
        before = getattr(self._local, "heard", None)
        self._local.heard = []
        try:
            yield self._local.heard
        finally:
            self._local.heard = before


class Rehearsal:
    """Opens rehearsed repositories, and keeps what was counted in them. Thread-safe."""

    def __init__(
        self,
        open_repository: Opener,
        ear: Ear,
        may_read: MayRead,
        *,
        reads_blob: Callable[[Descriptor], bool] = lambda _: False,
        seeks_blobs: bool = False,
        before: Rehearsal | None = None,
    ) -> None:
        """``ear`` hears what the repositories of ``open_repository`` ask.

        Blobs for which ``reads_blob`` is true are really read: images have their date in their configs. With
        ``seeks_blobs`` those that are only opened may be missing: the run tries one place after the other.
        What ``before`` has asked is not asked again.
        """
        self.run, self.own = Tally(), Tally()
        """What the run would ask and move; what only the rehearsal has asked."""
        self.ear, self.may_read, self.reads_blob, self.seeks_blobs = ear, may_read, reads_blob, seeks_blobs
        self._open = open_repository
        self.answers: _Remembered = before.answers if before else _Remembered()
        self._written = _Remembered()
        self._indexes: dict[str, bool] = {}
        self._failures: dict[str, tuple[int, RegistryError | None]] = {}
        """By registry: how often in a row it was out of reach. Threads race; a lost count costs a request."""
        self._last = threading.local()

    def real(self, name: str) -> Repository:
        """The repository itself; what is read there leaves the reserve of budgets to others."""
        return self._open(name, gives_way=True)

    def counted(self, host: str, heard: Iterable[tuple[Request, int]]) -> None:
        """The run would ask all this, too."""
        self.run.asked(host, *(request for request, _ in heard))

    def lists(self, lister: Lister | None) -> Lister | None:
        """The same way to what is below wildcards, counted."""
        if lister is None:
            return None

        def page(below: Wildcard, cursor: str, /) -> RepositoryPage:
            with self.counting(below.host):
                return lister(below, cursor)

        return page

    @contextmanager
    def counting(self, host: str) -> Iterator[list[tuple[Request, int]]]:
        """The run would ask all that is asked meanwhile, whatever comes of it."""
        with self.ear.listening() as heard:
            try:
                yield heard
            finally:
                self.counted(host, heard)

    def asked(self, repository: Repository, what: str, key: str, action: Callable[[], T]) -> T:
        """What the registry answers, asked once; counted as often as the run would ask it."""
        place = (repository.name, what, key)
        known: _Answer | None = self.answers.get(place)
        if known is None:
            known = self._answer(repository, action)
            self.answers.keep(place, known)
        self.counted(repository.host, known.heard)
        if known.missing is not None:
            raise type(known.missing)(*known.missing.args)
        return cast("T", known.value)

    def _answer(self, repository: Repository, action: Callable[[], T]) -> _Answer:
        """What it said, or that there is no such thing; any other error rises, and its request is counted."""
        with self.ear.listening() as heard:
            try:
                return _Answer(self._patiently(repository, action), None, heard)
            except NotFound as error:
                return _Answer(None, error, heard)
            except BaseException:
                self.counted(repository.host, heard)
                raise

    def _patiently(self, repository: Repository, action: Callable[[], T]) -> T:
        """Ask, unless the registry was out of reach a few times in a row: not every tag waits for that."""
        failures, last = self._failures.get(repository.host, (0, None))
        if last is not None and failures >= PATIENCE:
            raise _given_up(last)
        try:
            answer = action()
        except (Transient, Unauthorized) as error:
            self._failures[repository.host] = failures + 1, error
            raise
        except RegistryError:
            self._failures.pop(repository.host, None)
            raise
        self._failures.pop(repository.host, None)
        return answer

    def read(self, repository: Repository, tag_or_digest: str) -> Manifest:
        """A manifest from the registry; Withheld where it may not be read."""
        if not self.may_read(repository.host, tag_or_digest):
            raise Withheld(
                repository.host,
                f"{repository.name}@{tag_or_digest}",
                "reading it counts, and it was not read",
            )
        asked = self._asked_for(tag_or_digest)
        with self.counting(repository.host) as heard:
            asked.append((repository.host, heard))
            return self._patiently(repository, lambda: repository.manifest(tag_or_digest))

    def _asked_for(self, tag_or_digest: str) -> list[tuple[str, list[tuple[Request, int]]]]:
        """What this thread has asked for it one after the other, in vain so far."""
        what, asked = getattr(self._last, "read", ("", []))
        if what != tag_or_digest:
            asked = []
            self._last.read = tag_or_digest, asked
        return asked

    def kept(self) -> None:
        """What this thread read last is in the fleet's cache now: the run will not look for it again."""
        _, asked = self._last.read
        for host, heard in asked:
            self.run.unasked(host, Counter(request for request, _ in heard))
            self.own.asked(host, *(request for request, _ in heard))
        asked.clear()

    def blob_size(self, repository: Repository, digest: str) -> int:
        """Of a blob that the run would try to read there: what is asked for that is the rehearsal's own."""
        place = (repository.name, "blob", digest)
        known: _Answer | None = self.answers.get(place)
        if known is None:
            known = self._answer(repository, lambda: repository.blob_size(digest))
            self.answers.keep(place, known)
            self.own.asked(repository.host, *(request for request, _ in known.heard))
        if known.missing is not None:
            raise type(known.missing)(*known.missing.args)
        return cast("int", known.value)

    def put(self, place: tuple[str, str, str], value: object) -> None:
        self._written.keep(place, value)

    def was_put(self, place: tuple[str, str, str]) -> Any:
        return self._written.get(place)

    def indexes_referrers(self, repository: Repository, digest: str) -> bool:
        """Whether the registry would keep the list of referrers itself, as its API says."""
        if repository.host not in self._indexes:
            self._indexes[repository.host] = repository.host == LAYOUT or self._has_api(repository, digest)
        return self._indexes[repository.host]

    def _has_api(self, repository: Repository, digest: str) -> bool:
        """A client that has found no API there asks no second time."""
        for _ in range(2):
            with self.ear.listening() as heard:
                repository.referrers(digest, has_tag=False)
            if not heard:
                return False
            if heard[-1][1] == 200:
                return True
        return True


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a registry said once."""

    value: object
    missing: NotFound | None
    heard: list[tuple[Request, int]]


class _Remembered:
    """The last MOST_REMEMBERED values. Thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], Any] = {}
        self._lock = threading.Lock()

    def get(self, place: tuple[str, str, str]) -> Any:
        return self._kept.get(place)

    def keep(self, place: tuple[str, str, str], value: object) -> None:
        with self._lock:
            self._kept[place] = value
            if len(self._kept) > MOST_REMEMBERED:
                del self._kept[next(iter(self._kept))]


def _given_up(error: RegistryError) -> RegistryError:
    """The same that nobody tries again."""
    if isinstance(error, Transient):
        return Refused(error.end, error.what, error.reason, error.status, error.code)
    return error
