"""What the documentation shows exists: commands, options, targets, variables, files, keys."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from config.settings import Settings
from mirror.ledger.keys import Keys
from workers.processes import REGION_VARIABLE

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/README.md")])
SHELL_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
VARIABLE = re.compile(r"\bSEALIFT_[A-Z_]+\b")
TEST_ONLY_VARIABLES = {"SEALIFT_NO_SKIPS"}
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
KEY_ROW = re.compile(r"^\| `(sealift:[^`]+)` \|", re.MULTILINE)


def place(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def shown(page: Path) -> Iterator[list[str]]:
    """Each command line of the page in words: lines of shell blocks, and inline code."""
    text = page.read_text()
    lines = [line for block in SHELL_BLOCK.findall(text) for line in block.splitlines()]
    for line in (*lines, *INLINE.findall(text)):
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:  # inline code that is no command, with a lone quote in it
            continue
        if words:
            yield words


def commands(program: str) -> list[tuple[str, list[str]]]:
    """(page, words after the program's name) of every command line of ``program``."""
    return [
        (place(page), words[1:])
        for page in PAGES
        for words in shown(page)
        if words[0] == program and len(words) > 1
    ]


@cache
def options_of() -> dict[str, set[str]]:
    """The options of every command of ours, by its name; the empty name for what stands before it."""
    group = typer.main.get_command(importlib.import_module("workers.cli.app").app)
    parts = {"": group, **getattr(group, "commands", {})}
    return {
        name: {"--help"} | {flag for parameter in command.params for flag in parameter.opts}
        | {flag for parameter in command.params for flag in parameter.secondary_opts}
        for name, command in parts.items()
    }  # fmt: skip


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_command_shown_is_one() -> None:
    unknown = [
        f"{page}: sealift {' '.join(words)}"
        for page, words in commands("sealift")
        if words[0] not in options_of() and words[0] not in options_of()[""]
    ]
    assert not unknown
    assert commands("sealift"), "no command was found at all"


def test_every_option_shown_is_one_of_its_command() -> None:
    unknown = [
        f"{page}: sealift {' '.join(words)}"
        for page, words in commands("sealift")
        for word in words
        if word.startswith("--")
        and word.partition("=")[0] not in options_of().get(words[0], set()) | options_of()[""]
    ]
    assert not unknown


def test_every_make_target_shown_is_one() -> None:
    unknown = [
        f"{page}: make {word}"
        for page, words in commands("make")
        for word in words
        if word not in make_targets() and "=" not in word
    ]
    assert not unknown


def test_every_make_target_has_a_line_of_help() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == set(re.findall(r"^([a-z][a-z-]*):.*## \S", text, re.MULTILINE))


def test_every_celery_application_shown_is_one() -> None:
    """Read, not imported: that would make it this process's own."""
    names = {words[words.index("-A") + 1] for _, words in commands("celery") if "-A" in words}
    assert names == {"workers.app"}
    module = ast.parse((ROOT / "workers" / "app.py").read_text())
    assigned = [node for node in module.body if isinstance(node, ast.Assign)]
    assert any(isinstance(target, ast.Name) and target.id == "app" for n in assigned for target in n.targets)


def test_a_worker_that_plain_celery_starts_is_told_its_region_too() -> None:
    """Without it what the worker has taken is kept where neither KEDA nor the exporter looks."""
    blocks = [block for page in PAGES for block in SHELL_BLOCK.findall(page.read_text())]
    starting = [block for block in blocks if "workers.app worker" in block]
    assert starting
    for block in starting:
        told = re.search(rf"\b{REGION_VARIABLE}=(\S+)", block)
        assert told, block
        assert f"-Q {told[1]},control" in block


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_every_variable_named_is_a_setting(page: Path) -> None:
    known = {f"SEALIFT_{name.upper()}" for name in Settings.model_fields}
    known |= {REGION_VARIABLE, *TEST_ONLY_VARIABLES}
    assert set(VARIABLE.findall(page.read_text())) <= known


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_every_file_linked_to_exists(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def test_the_ledgers_keys_are_all_listed_and_no_others() -> None:
    listed = KEY_ROW.findall((ROOT / "docs" / "architecture.md").read_text())
    assert sorted(listed) == sorted(ledger_keys())


def ledger_keys() -> Iterator[str]:
    """Every key that :class:`Keys` can name, its parameters in braces; prefixes of keys left out."""
    keys = Keys("sealift:")
    yield from (value for name, value in vars(keys).items() if name != "root")
    for name, method in inspect.getmembers(Keys, inspect.isfunction):
        if not name.startswith("_"):
            parameters = list(inspect.signature(method).parameters)[1:]
            yield method(keys, *(f"{{{parameter}}}" for parameter in parameters))
