"""The rules of the house (docs/architecture.md), read off the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_FUNCTION_LINES = 40
MAX_FILE_LINES = 400

PACKAGES = ("config", "registry", "mirror", "tasks", "workers")
MAY_IMPORT_OF_OURS: dict[str, set[str]] = {
    "config": set(),
    "registry": set(),
    "mirror": {"registry"},
    "tasks": {"mirror", "registry", "config"},
    "workers": {"tasks", "mirror", "registry", "config"},
}
"""Downwards only: an upward import is a cycle about to happen."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "celery": ("tasks/", "workers/"),
    "kombu": ("tasks/", "workers/"),
    "billiard": ("tasks/", "workers/"),
    "httpx": ("registry/",),
    "redis": ("mirror/ledger", "tasks/broker.py", "tasks/runtime.py"),
    "apprise": ("tasks/receivers.py",),
    "pydantic_settings": ("config/",),
    "typer": ("workers/cli/",),
    "rich": ("workers/cli/",),
    "tomlkit": ("workers/clients/",),
    "starlette": ("workers/serve/",),
    "uvicorn": ("workers/serve/server.py",),
    "prometheus_client": ("workers/exporter.py", "workers/metrics.py"),
}
"""A library's own ideas stay behind the module that speaks for it; prefixes of paths."""

BARRED_NAMES = {
    "celery.py": "run as a script its folder comes first on the path, and `import celery` gets it",
    "utils.py": "names no idea: everything and therefore nothing belongs there",
    "helpers.py": "as utils.py",
    "common.py": "as utils.py",
}


@cache
def sources(package: str) -> tuple[Path, ...]:
    return tuple(sorted((ROOT / package).rglob("*.py")))


def all_sources() -> list[Path]:
    return [path for package in PACKAGES for path in sources(package)]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Each top-level name that the module imports, at any depth, with its line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{place(path)}:{node.lineno}: a relative import"
            yield (node.module or "").partition(".")[0], node.lineno


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From ``def`` to the last line, the docstring left out: explaining is free."""
    first, *_ = function.body
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_imports_only_what_is_below_it(package: str) -> None:
    upward = [
        f"{place(path)}:{line} imports {name}"
        for path in sources(package)
        for name, line in imported(path)
        if name in PACKAGES and name != package and name not in MAY_IMPORT_OF_OURS[package]
    ]
    assert not upward


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_behind_the_module_that_speaks_for_it(library: str) -> None:
    elsewhere = [
        f"{place(path)}:{line}"
        for path in all_sources()
        for name, line in imported(path)
        if name == library and not place(path).startswith(ONLY_IN[library])
    ]
    assert not elsewhere


def test_no_module_has_a_name_that_does_harm() -> None:
    barred = {place(path): BARRED_NAMES[path.name] for path in all_sources() if path.name in BARRED_NAMES}
    assert not barred


def test_our_top_level_names_are_in_nobody_elses_distribution() -> None:
    """Installed beside ours, such a distribution overwrites our files without a word."""
    claimed = packages_distributions()
    others = {
        name: owners
        for name in PACKAGES
        if (owners := [owner for owner in claimed.get(name, []) if owner != "sealift"])
    }
    assert not others


def test_our_top_level_names_are_not_in_the_standard_library() -> None:
    assert not sys.stdlib_module_names & set(PACKAGES)


def test_functions_are_short() -> None:
    long = {
        f"{place(path)}:{function.lineno} {function.name}": lines_of(function)
        for path in all_sources()
        for function in functions(path)
        if lines_of(function) > MAX_FUNCTION_LINES
    }
    assert not long


def test_files_are_short() -> None:
    long = {
        place(path): length
        for path in all_sources()
        if (length := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert not long


def task_decorators(path: Path) -> Iterator[tuple[int, ast.Call | None]]:
    """Each decorator that makes a Celery task, with its line; None where it has no arguments."""
    for function in functions(path):
        for decorator in function.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in {"shared_task", "task"}:
                yield decorator.lineno, decorator if isinstance(decorator, ast.Call) else None


def explicit_name(decorator: ast.Call | None) -> str:
    for keyword in decorator.keywords if decorator else ():
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return ""


def test_every_task_has_an_explicit_name_of_ours() -> None:
    """A name taken from the module would orphan messages in flight when the module moves."""
    names = [
        (f"{place(path)}:{line}", explicit_name(decorator))
        for package in ("tasks", "workers")
        for path in sources(package)
        for line, decorator in task_decorators(path)
    ]
    unnamed = [where for where, name in names if not name.startswith("sealift.")]
    assert not unnamed
    assert len({name for _, name in names}) == len(names), "two tasks share a name"


def test_every_task_module_is_imported_by_the_application() -> None:
    """``autodiscover_tasks`` finds nothing in a flat layout: the application names each module."""
    modules = {f"tasks.{path.stem}" for path in sources("tasks") if any(True for _ in task_decorators(path))}
    spoken = {
        node.value
        for path in (*sources("tasks"), *sources("workers"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert modules <= spoken
