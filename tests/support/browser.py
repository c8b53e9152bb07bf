"""A headless Chromium, driven by its WebDriver: pages as people see them."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.ports import LOOPBACK, free_port
from tests.support.process import Process
from tests.support.waiting import until

START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 60.0
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


class Browser:
    """One window of that width and height; the test is skipped where there is no Chromium."""

    def __init__(self, folder: Path, width: int = 1500, height: int = 800) -> None:
        driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
        if driver is None or chromium is None:
            pytest.skip("no chromium and chromium-driver are installed (make test-deps)")
        self._url = f"http://{LOOPBACK}:{(port := free_port())}"
        home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        self._process = Process([driver, f"--port={port}"], folder / "chromedriver.log", home)
        flags = [*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={folder / 'profile'}"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": flags, "binary": chromium}}
        try:
            until(self._is_up, START_TIMEOUT_S, self._process.tail)
            made = self._ask("/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self._process.kill()
            raise
        self._session = f"/session/{made['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def open(self, url: str) -> None:
        self._ask(f"{self._session}/url", {"url": url})

    def prefer(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._command("Emulation.setEmulatedMedia", {"features": [feature]})

    def resize(self, width: int, height: int) -> None:
        """Of what the page is laid out in."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", size)

    def _command(self, name: str, parameters: dict[str, Any]) -> None:
        self._ask(f"{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def run(self, script: str) -> Any:
        """What the script returns in the page."""
        return self._ask(f"{self._session}/execute/sync", {"script": script, "args": []})

    def screenshot(self, path: Path) -> None:
        shot = self._ask(f"{self._session}/screenshot")
        path.write_bytes(base64.b64decode(shot))

    def _is_up(self) -> bool:
        assert self._process.running, self._process.tail()
        try:
            return bool(self._ask("/status")["ready"])
        except OSError:
            return False

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json; charset=utf-8"}
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
