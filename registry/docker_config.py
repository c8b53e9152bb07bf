"""What ``docker login``, ``podman login`` and ``skopeo login`` left behind: config.json and auth.json.

Formats: docker/cli ``cli/config/configfile`` and containers-auth.json(5); the helpers' protocol is that of
docker-credential-helpers: the server on stdin, one JSON object on stdout.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from registry.credentials import (
    ChainedCredentials,
    Credential,
    CredentialEntry,
    CredentialError,
    CredentialSource,
    ExplicitCredentials,
    FileCache,
    MalformedCredentials,
    canonical_host,
)
from registry.redact import redacted
from registry.reference import DOCKER_HUB

HUB_SERVER = "https://index.docker.io/v1/"
"""Docker Hub's name in config.json and at the helpers, for historical reasons."""
HELPER_TIMEOUT_S = 10.0
HELPER_TTL_S = 300.0
"""How long a helper's answer is kept: it starts a program, and its tokens live for hours."""
IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the marker that helpers use, no secret
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_API_PATHS = frozenset({"", "/", "/v1", "/v1/", "/v2", "/v2/"})


class HelperFailed(CredentialError):
    """A credential helper is missing, failed or answered nonsense."""


class DockerConfig:
    """The credentials of one config.json or auth.json, read again when it changes. Thread-safe."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._file = FileCache(path, self._parse)
        self._helped: dict[tuple[str, str], tuple[float, Credential | None]] = {}

    def lookup(self, host: str) -> Credential | None:
        """What the file says about ``host``: its own helper first, then the store, then the file itself.

        Raises MalformedCredentials or HelperFailed; None also if the file does not exist.
        """
        host = canonical_host(host)
        with self._lock:
            document = self._document()
            for helper, server in self._helpers(document, host):
                if credential := self._help(helper, server):
                    return credential
        for key, entry in self._section(document, "auths").items():
            if _names(key, host) and (credential := self._decode(key, entry)):
                return credential
        return None

    def _document(self) -> dict[str, Any]:
        try:
            return self._file.value() or {}
        except OSError as error:
            raise MalformedCredentials(f"{self._path}: cannot be read: {error.strerror}") from None

    def _parse(self, content: bytes) -> dict[str, Any]:
        try:
            document = json.loads(content or b"{}")
        except json.JSONDecodeError as error:
            # Not chained: the error carries the whole document.
            raise MalformedCredentials(f"{self._path}:{error.lineno}:{error.colno}: {error.msg}") from None
        except (UnicodeDecodeError, RecursionError):
            raise MalformedCredentials(f"{self._path}: is not JSON in UTF-8") from None
        if not isinstance(document, dict):
            raise MalformedCredentials(f"{self._path}: is not a JSON object")
        return document

    def _section(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        section = document.get(name) or {}
        if not isinstance(section, dict):
            raise MalformedCredentials(f"{self._path}: {name} is not an object")
        return section

    def _helpers(self, document: dict[str, Any], host: str) -> list[tuple[str, str]]:
        """Helpers to ask, each with the server's name it may know: as written, or as docker passes it."""
        own = [(h, key) for key, h in self._section(document, "credHelpers").items() if _names(key, host)]
        store = document.get("credsStore")
        named = own or ([(store, HUB_SERVER if host == DOCKER_HUB else host)] if store else [])
        return [(self._checked(helper), server) for helper, server in named]

    def _checked(self, helper: object) -> str:
        if not isinstance(helper, str) or not _HELPER_NAME.fullmatch(helper):
            raise MalformedCredentials(f"{self._path}: {helper!r} is not the name of a credential helper")
        return helper

    def _help(self, helper: str, server: str) -> Credential | None:
        held = self._helped.get((helper, server))
        if held and self._clock() < held[0]:
            return held[1]
        credential = ask_helper(helper, server)
        self._helped[helper, server] = (self._clock() + HELPER_TTL_S, credential)
        return credential

    def _decode(self, key: str, entry: object) -> Credential | None:
        if not isinstance(entry, dict):
            raise MalformedCredentials(f"{self._path}: auths[{key!r}] is not an object")
        texts = {n: entry.get(n) or "" for n in ("auth", "username", "password", "identitytoken")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise MalformedCredentials(f"{self._path}: auths[{key!r}] holds what is not text")
        username, password = texts["username"], texts["password"]
        if texts["auth"]:
            username, password = self._pair(key, texts["auth"])
        if not (username or password or texts["identitytoken"]):
            return None  # docker leaves an empty entry for what its store holds
        return Credential(username, password, texts["identitytoken"])

    def _pair(self, key: str, auth: str) -> tuple[str, str]:
        try:
            pair = base64.b64decode(auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            pair = ""
        username, colon, password = pair.partition(":")
        if not colon:
            raise MalformedCredentials(
                f"{self._path}: auths[{key!r}].auth is not base64 of user:password; log in again"
            )
        return username, password.strip("\0")


def ask_helper(helper: str, server: str) -> Credential | None:
    """Run ``docker-credential-HELPER get``; None if it knows nothing about ``server``.

    Raises HelperFailed, with the helper's own words where it has some.
    """
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(  # noqa: S603 - the name fits a strict grammar, the file is the user's own
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            check=False,
            timeout=HELPER_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise HelperFailed(f"{program} is not installed; it is named in docker's config.json") from None
    except subprocess.TimeoutExpired:
        raise HelperFailed(f"{program}: no answer about {server} in {HELPER_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise HelperFailed(f"{program}: cannot be run: {error.strerror}") from None
    if done.returncode:
        words = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace")
        if "credentials not found" in words:
            return None
        raise HelperFailed(f"{program}: about {server}: {redacted(words.partition(chr(10))[0][:200])}")
    return _helper_answer(program, done.stdout)


def docker_config_files(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where to look, most explicit first: REGISTRY_AUTH_FILE, docker's file, then podman's and skopeo's."""
    files = [Path(environ["REGISTRY_AUTH_FILE"])] if environ.get("REGISTRY_AUTH_FILE") else []
    if environ.get("DOCKER_CONFIG"):
        files.append(Path(environ["DOCKER_CONFIG"], "config.json"))
    elif environ.get("HOME"):
        files.append(Path(environ["HOME"], ".docker", "config.json"))
    if environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(environ["XDG_RUNTIME_DIR"], "containers", "auth.json"))
    return tuple(files)


def _names(key: str, host: str) -> bool:
    """Whether a key of the file means ``host``: ``ghcr.io``, ``https://ghcr.io/v1/``; never a namespace."""
    try:
        url = urlsplit(key if "://" in key else f"//{key}")
    except ValueError:
        return False
    return url.path in _API_PATHS and canonical_host(url.netloc) == host


def _helper_answer(program: str, stdout: bytes) -> Credential | None:
    try:
        answer = json.loads(stdout)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HelperFailed(f"{program}: its answer is not JSON with Username and Secret") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise HelperFailed(f"{program}: its answer's Username or Secret is not text")
    if not secret:
        return None
    if username == IDENTITY_TOKEN_USER:
        return Credential("", "", secret)
    return Credential(username, secret)


def usual_credentials(
    entries: Mapping[str, CredentialEntry], environ: Mapping[str, str] = os.environ
) -> CredentialSource:
    """The fleet file's ``entries``, then every file of :func:`docker_config_files`."""
    files = (DockerConfig(path) for path in docker_config_files(environ))
    return ChainedCredentials([ExplicitCredentials(entries, environ), *files])
