"""What tells one installation of Sealift from another, or from the same before a change."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGES = ("config", "registry", "mirror", "tasks", "workers")
_ROOT = Path(__file__).parent.parent


def stamp() -> str:
    """Interpreter, place, and the youngest of our files; a millisecond or two."""
    newest = max(_changes(_ROOT / package) for package in PACKAGES)
    return f"{sys.executable} {_ROOT} {newest}"


def _changes(folder: Path) -> int:
    newest = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                newest = max(newest, _changes(Path(entry.path)) if entry.name != "__pycache__" else 0)
            elif entry.name.endswith(".py"):
                newest = max(newest, entry.stat().st_mtime_ns)
    return newest
