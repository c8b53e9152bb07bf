"""Who we are at a registry: explicit entries first, then what docker, podman and skopeo logged in with."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from registry.reference import DOCKER_HUB

Stamp = tuple[int, int, int]
"""A file's mtime_ns, size and inode: a secret that Kubernetes swaps by a link changes its inode."""

_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
T = TypeVar("T")


class CredentialError(ValueError):
    """Credentials are configured and cannot be had; the text names the place, never the secret."""


class MissingCredential(CredentialError):
    """An environment variable or file that the fleet file names is not there."""


class MalformedCredentials(CredentialError):
    """A credentials file is not what it should be; the text names file and position."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An account; ``identity_token`` is an OAuth 2 refresh token that stands in for the password."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class CredentialSource(Protocol):
    """Where credentials come from; asked often, so implementations keep what is slow to get."""

    def lookup(self, host: str) -> Credential | None:
        """The account for ``host`` as references name it, None for anonymous access.

        Raises CredentialError where something is configured for this host and cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class CredentialEntry:
    """One registry's account in the fleet file.

    Each value is ``env:NAME``, ``file:PATH`` (read again when the file changes; one trailing newline is
    dropped) or, for the user name, the text itself. What may be a literal is the fleet file's rule.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class ExplicitCredentials:
    """The accounts that the fleet file names, by host."""

    def __init__(
        self, entries: Mapping[str, CredentialEntry], environ: Mapping[str, str] = os.environ
    ) -> None:
        self._entries = {canonical_host(host): entry for host, entry in entries.items()}
        self._environ = environ
        self._files: dict[str, FileCache[str]] = {}
        self._lock = threading.Lock()

    def lookup(self, host: str) -> Credential | None:
        """The account of ``host``. Raises MissingCredential naming the variable or file, and the host."""
        entry = self._entries.get(canonical_host(host))
        if entry is None:
            return None
        return Credential(
            self._resolve(entry.username, host),
            self._resolve(entry.password, host),
            self._resolve(entry.identity_token, host),
        )

    def _resolve(self, value: str, host: str) -> str:
        kind, colon, rest = value.partition(":")
        if colon and kind == "env":
            if found := self._environ.get(rest):
                return found
            state = "empty" if rest in self._environ else "not set"
            raise MissingCredential(
                f"registry {host}: environment variable {rest} is {state}; export it or change the fleet file"
            )
        return self._read(rest, host) if colon and kind == "file" else value

    def _read(self, path: str, host: str) -> str:
        with self._lock:
            cache = self._files.setdefault(path, FileCache(Path(path), _secret_text))
            try:
                text = cache.value()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise MissingCredential(f"registry {host}: credential file {path}: {reason}") from None
        if not text:
            raise MissingCredential(f"registry {host}: credential file {path} is missing or empty")
        return text


class ChainedCredentials:
    """Asks one source after the other; the first that knows the host answers."""

    def __init__(self, sources: Iterable[CredentialSource]) -> None:
        self._sources = tuple(sources)

    def lookup(self, host: str) -> Credential | None:
        found = (source.lookup(host) for source in self._sources)
        return next((credential for credential in found if credential is not None), None)


class FileCache(Generic[T]):
    """A file's parsed content, parsed again when the file changes. Not thread-safe."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self._path = path
        self._parse = parse
        self._stamp: Stamp | None = None
        self._value: T | None = None

    def value(self) -> T | None:
        """None if there is no such file. Raises OSError, and whatever the parser raises."""
        try:
            stat = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._value = self._parse(self._path.read_bytes())
            self._stamp = stamp
        return self._value


def canonical_host(host: str) -> str:
    """``host`` as references name it: lower case, Docker Hub by its one name."""
    host = host.lower()
    return DOCKER_HUB if host in _HUB_HOSTS else host


def _secret_text(content: bytes) -> str:
    text = content.decode()
    return text.removesuffix("\n").removesuffix("\r")
