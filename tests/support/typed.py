"""A command as somebody types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.process import surroundings


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where its own fleet is for good; its state is in ``./state``."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "workers.cli", *words],
        env={**surroundings(), "SEALIFT_STATE_DIR": str(Path("state").absolute())},
        capture_output=True,
        text=True,
        check=False,
    )
