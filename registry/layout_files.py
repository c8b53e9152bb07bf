"""Files of an image layout: crash-safe writes, and system errors in the words of :mod:`registry.errors`."""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.descriptor import is_digest
from registry.errors import Denied, NotFound, Permanent, Refused, RegistryError, Transient

LEFTOVER_AGE_S = 24 * 3600.0
"""A temporary file this long unchanged has no writer any more: a write in progress changes it."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_PASSING = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ENOMEM}
    | {errno.EINTR, errno.ESTALE, errno.ETIMEDOUT}
)


@contextmanager
def system_errors(end: str, folder: Path, what: str) -> Iterator[None]:
    """Translate an OSError into an error of ``end``, the layout's name."""
    try:
        yield
    except OSError as error:
        raise _translated(error, end, folder, what) from error


def _translated(error: OSError, end: str, folder: Path, what: str) -> RegistryError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return Refused(end, what, f"no space left under {folder}")
    if error.errno in _FORBIDDEN:
        return Denied(end, what, f"{reason}: {error.filename or folder}")
    if error.errno == errno.ENOENT:
        return NotFound(end, what, "not there")
    return (Transient if error.errno in _PASSING else Permanent)(end, what, reason)


class LayoutFiles:
    """Where things lie in one layout folder, and how they get there.

    Files that are not content are kept in ``.sealift``, on the same file system as what they become.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = folder / "index.json"
        self.marker = folder / "oci-layout"
        self._own = folder / ".sealift"
        self._temporary = self._own / "tmp"

    def blob(self, digest: str) -> Path:
        """The file of a blob; only a digest in full may become a path."""
        if not is_digest(digest):
            raise ValueError(f"not a digest: {digest!r}")
        algorithm, _, encoded = digest.partition(":")
        return self.folder / "blobs" / algorithm / encoded

    def holds_nothing(self) -> bool:
        """Whether the folder is missing or empty: what a layout may still be made in."""
        try:
            return all(path.name == self._own.name for path in self.folder.iterdir())
        except FileNotFoundError:
            return True

    def prepare(self) -> None:
        """Make the folders a write needs and remove what dead writers left behind."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - LEFTOVER_AGE_S
        for path in self._temporary.iterdir():
            # Another process may be removing the same leftover.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def reserve(self) -> Path:
        """A new, empty temporary file."""
        path = self._temporary / uuid.uuid4().hex
        path.touch(exist_ok=False)
        return path

    def reserved(self, location: str) -> Path:
        """The temporary file ``location`` names; never one outside of this layout's own folder."""
        return self._temporary / Path(location).name

    def write(self, path: Path, content: bytes) -> None:
        """Put ``content`` at ``path`` for good: after a crash there is the old file or the new one."""
        temporary = self.reserve()
        try:
            descriptor = create(temporary)
            try:
                write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.commit(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def commit(self, temporary: Path, path: Path) -> None:
        """Rename a file whose bytes are on disk, and wait until the rename is on disk too."""
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(path.parent.parent)
        temporary.replace(path)
        sync_folder(path.parent)

    def link(self, origin: Path, path: Path) -> None:
        """Give the bytes at ``origin`` a second name; OSError where the file system cannot."""
        temporary = self._temporary / uuid.uuid4().hex
        temporary.hardlink_to(origin)
        try:
            self.commit(temporary, path)
        finally:
            # Renaming one name of a file to another of its names does nothing (POSIX rename).
            temporary.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer of index.json, among all threads and processes of this machine."""
        descriptor = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # The kernel lets go of it when the process dies, however it dies.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def create(path: Path) -> int:
    """The descriptor of the file at ``path``, emptied; with the permissions the user's umask leaves."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)


def write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
