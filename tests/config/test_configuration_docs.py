"""docs/configuration.md says what the code does: names, defaults, descriptions; and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.fleet import Fleet, Mirror, RepositoryRules, TagRules, TargetConfig, parse_fleet
from config.notification import Receiver
from config.registries import RegistryConfig
from config.settings import Settings
from config.verification import VerifyRules
from config.webhooks import Webhook
from mirror.select import Selection
from tasks.terms import check_fleet, spec_of

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<kind>[^|]+) \| (?P<default>[^|]+) \| (?P<text>[^|]+) \|$", re.MULTILINE
)
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
CHOICE_ROW = re.compile(r"^\| `(?P<tags>tags: [^`]+)` \| (?P<kept>[^|]+) \|(?P<why>[^|]*)\|$", re.MULTILINE)
COMPUTED = {"state_dir": "`sealift` in the user's state folder"}


def section(title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"no section {title!r}"
    return match[1]


def rows(title: str) -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["default"], row["text"]) for row in ROW.finditer(section(title))}


def default_of(name: str, field: FieldInfo) -> str:
    if name in COMPUTED:
        return COMPUTED[name]
    if field.is_required():
        return "required"
    if field.default_factory is not None or field.default == ():
        return "empty" if field.annotation is not TagRules else "all"
    if field.default is None:
        return "unset"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`".replace("'", '"')


def described(model: type[BaseModel], prefix: str = "") -> dict[str, tuple[str, str]]:
    return {
        f"{prefix}{name.upper() if prefix else name}": (default_of(name, field), str(field.description))
        for name, field in model.model_fields.items()
    }


def test_every_variable_is_on_the_page_with_its_default_and_meaning() -> None:
    assert rows("The environment") == described(Settings, "SEALIFT_")


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("The fleet file", Fleet),
        ("Registries", RegistryConfig),
        ("Mirrors", Mirror),
        ("Verification", VerifyRules),
        ("Notifications", Receiver),
        ("Targets", TargetConfig),
        ("Many repositories", RepositoryRules),
        ("Which tags", TagRules),
        ("Webhooks", Webhook),
    ],
)
def test_every_key_is_on_the_page_with_its_default_and_meaning(title: str, model: type[BaseModel]) -> None:
    assert rows(title) == described(model)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_a_valid_fleet_file(text: str) -> None:
    fleet = parse_fleet(text)

    check_fleet(fleet)

    assert fleet.mirrors


def listing() -> list[str]:
    match = re.search(r"A repository with the tags ((?:`[^`]+`(?:, | and )?)+)", section("Which tags"))
    assert match
    return re.findall(r"`([^`]+)`", match[1])


def choices() -> list[tuple[str, str]]:
    return [(row["tags"], row["kept"]) for row in CHOICE_ROW.finditer(section("Which tags"))]


@pytest.mark.parametrize(("tags", "kept"), choices())
def test_every_example_of_a_selection_selects_what_the_page_says(tags: str, kept: str) -> None:
    fleet = parse_fleet(f"mirrors:\n  - {{name: a, source: a.example/a, targets: [b.example/a], {tags}}}\n")

    choice = Selection.of(spec_of(fleet.mirrors[0], fleet)).choose(listing())

    assert sorted(choice.kept) == sorted(re.findall(r"`([^`]+)`", kept))


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 2
    assert len(choices()) >= 8
