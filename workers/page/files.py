"""The page in a folder: each file is written beside its place and renamed, so nobody reads half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from workers.page.render import BADGES

_MODE = 0o644


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write them, in their order; then badges of mirrors that are gone are removed. Raises OSError.

    Other files of the folder are left alone.
    """
    written = []
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
        written.append(path)
    for badge in (folder / BADGES).glob("*.svg"):
        if badge not in written:
            badge.unlink()
    return written


def _replace(path: Path, content: bytes) -> None:
    number, beside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(beside).chmod(_MODE)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
