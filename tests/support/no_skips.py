"""Turns skips into failures where nothing may be left out: ``SEALIFT_NO_SKIPS=1``, as CI sets it.

A skip says that a program or a right is missing on this machine. On a developer's machine that is fine;
in CI it would be a test that nobody ever runs.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


def skips_are_failures() -> bool:
    return os.environ.get("SEALIFT_NO_SKIPS", "") not in {"", "0"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not skips_are_failures():
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"SEALIFT_NO_SKIPS is set, and this was skipped. {reason}"
