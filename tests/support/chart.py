"""The Helm chart, rendered in this process by Helm's own code, and what it is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from config.settings import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "sealift"
VALUE_SETS = tuple(sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml")))
SETTING_NAMES = frozenset(Settings.model_fields)
"""As in Settings: small, without prefix."""
SETTINGS = frozenset(f"SEALIFT_{name.upper()}" for name in SETTING_NAMES)
LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example/team/sealift"},
    "redis": {"existingSecret": "fleet-redis"},
    "regions": {"eu": {}},
}
"""Values without any of which the chart refuses to render."""

Manifest = dict[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What the chart makes of some values."""

    manifests: tuple[Manifest, ...]
    notes: str = ""

    def of(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    def one(self, kind: str, name: str) -> Manifest:
        found = [manifest for manifest in self.of(kind) if manifest["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """(name, template) of whatever runs Pods."""
        for manifest in self.of("Deployment", "StatefulSet"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]

    def containers(self) -> Iterator[tuple[str, Manifest]]:
        for name, template in self.pods():
            yield from ((name, container) for container in template["spec"]["containers"])


def render(values: Values, name: str = "sealift") -> Rendered:
    """Skips where Helm's code is not installed."""
    files: dict[str, str] = _chart().render(dict(values), name=name, namespace="mirror")
    notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
    texts = (text for path, text in sorted(files.items()) if path.endswith(".yaml"))
    return Rendered(tuple(m for text in texts for m in yaml.safe_load_all(text) if m), notes)


def refusal(values: Values, name: str = "sealift") -> str:
    """What the chart says to values that it does not take."""
    errors = _helm().HelmError
    with pytest.raises(errors) as caught:
        render(values, name)
    return str(caught.value)


@cache
def rendered(value_set: str) -> Rendered:
    return render(value_set_of(value_set))


def value_set_of(name: str) -> dict[str, Any]:
    document = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    assert isinstance(document, dict)
    return document


def with_values(*changes: Values, base: Values | None = None) -> dict[str, Any]:
    """``base`` (LEAST unless said) with each of ``changes`` merged into it, as Helm merges."""
    merged = deepcopy(dict(LEAST if base is None else base))
    for change in changes:
        _merge(merged, change)
    return merged


def settings_schema() -> dict[str, Any]:
    """What values.schema.json has to say of settings: what Settings itself takes of each."""
    kept = ("type", "enum", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "pattern")
    described: dict[str, dict[str, Any]] = Settings.model_json_schema()["properties"]
    known = {}
    for name, said in described.items():
        set_to = said["anyOf"][0] if "anyOf" in said else said
        known[name] = {key: set_to[key] for key in kept if key in set_to}
    return known


def environment_of(container: Manifest) -> dict[str, Any]:
    """By name: the literal, or the mapping that says where the value is kept."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", ())}


def check_command(words: list[str]) -> None:
    """That ``sealift WORDS`` is a command with these options."""
    from workers.cli.app import app

    command = getattr(typer.main.get_command(app), "commands", {})[words[0]]
    options = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def _merge(into: dict[str, Any], change: Values) -> None:
    for key, value in change.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = deepcopy(value)


@cache
def _chart() -> Any:
    return _helm().Chart.load(str(CHART))


def _helm() -> Any:
    return pytest.importorskip("helm_python", reason="Helm's code is not installed (make deploy-check)")
