"""skopeo as an independent judge: it reads registries with none of our code.

References are written as ours are (``host/repository:tag``); skopeo's own ``docker://…``, ``oci:DIR:tag``
and ``dir:DIR`` pass as they are. Everything is plain HTTP.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from registry.descriptor import INDEX_TYPES

TIMEOUT_S = 60
_TRANSPORTS = ("docker://", "oci:", "dir:")

needs_skopeo = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed (make test-deps)"
)


class SkopeoError(AssertionError):
    """skopeo could not do it; the text is its own."""


def skopeo(command: str, *arguments: str) -> bytes:
    """What ``skopeo COMMAND`` prints; SkopeoError where it fails."""
    binary = shutil.which("skopeo")
    if binary is None:
        pytest.skip("skopeo is not installed (make test-deps)")
    done = subprocess.run(
        [binary, "--insecure-policy", command, *arguments],
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        words = " ".join((command, *arguments))
        raise SkopeoError(f"skopeo {words}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def raw_manifest(reference: str) -> bytes:
    """The manifest's bytes as the registry serves them."""
    return skopeo("inspect", "--tls-verify=false", "--raw", _located(reference))


def digest(reference: str) -> str:
    """The sha256 digest of the manifest's bytes."""
    return f"sha256:{hashlib.sha256(raw_manifest(reference)).hexdigest()}"


def exists(reference: str) -> bool:
    """Whether there is a manifest; SkopeoError where the registry does not answer."""
    try:
        raw_manifest(reference)
    except SkopeoError as error:
        if "manifest unknown" in str(error) or "name unknown" in str(error):
            return False
        raise
    return True


def inspect(reference: str, *options: str) -> dict[str, Any]:
    """The image for one platform: its labels, layers, digest and the repository's tags."""
    answer = skopeo("inspect", "--tls-verify=false", *options, _located(reference))
    document: dict[str, Any] = json.loads(answer)
    return document


def tags(repository: str) -> list[str]:
    """Every tag of ``host/repository``."""
    answer = json.loads(skopeo("list-tags", "--tls-verify=false", _located(repository)))
    return list(answer["Tags"])


def stored_bytes(repository: str) -> int:
    """Of all that the repository's images refer to, each blob once, manifests left out."""
    sizes: dict[str, int] = {}
    waiting = [f"{repository}:{tag}" for tag in tags(repository)]
    while waiting:
        manifest = json.loads(raw_manifest(waiting.pop()))
        waiting += [f"{repository}@{child['digest']}" for child in manifest.get("manifests", ())]
        for blob in (manifest.get("config"), *manifest.get("layers", ())):
            if blob:
                sizes[blob["digest"]] = blob["size"]
    return sum(sizes.values())


def copy(source: str, target: str, *options: str, whole: bool = True) -> None:
    """Copy by skopeo, digests kept; ``whole`` takes every platform of an index."""
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
    platforms = ("--all",) if whole else ()
    skopeo("copy", "--quiet", *plain, *platforms, *options, _located(source), _located(target))


def pull(reference: str, folder: Path) -> None:
    """Fetch everything the reference reaches into ``folder``: fails unless all of it is there and true.

    skopeo itself does not look below an index in an index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = reference.partition("@")[0]
    document = json.loads(raw_manifest(reference))
    children = document.get("manifests", [])
    if not any(child["mediaType"] in INDEX_TYPES for child in children):
        copy(reference, f"dir:{folder}")
        return
    for number, child in enumerate(children):
        bare = name[: name.rindex(":")] if ":" in name.rpartition("/")[2] else name
        pull(f"{bare}@{child['digest']}", folder / str(number))


def _located(reference: str) -> str:
    return reference if reference.startswith(_TRANSPORTS) else f"docker://{reference}"
