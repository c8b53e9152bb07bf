"""Alert rules and the dashboard: promtool takes them, they fire when they should, and every name exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from workers import metrics

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "helm" / "sealift" / "files"
RULES, DASHBOARD = FILES / "rules.yaml", FILES / "dashboard.json"
RULE_TESTS = Path(__file__).with_name("rules-tests.yaml")
NAME = re.compile(r"\bsealift_[a-z0-9_]+")
VARIABLES = {
    "$job": "sealift",
    "$namespace": "mirror",
    "$__rate_interval": "5m",
    "$__interval": "1m",
    "$__range": "1h",
}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (panel, *panel.get("panels", ()))


def expressions() -> list[tuple[str, str]]:
    """(panel, expression) of everything that the dashboard asks, its variables filled in."""
    found = []
    for panel in panels():
        for target in panel.get("targets", ()):
            text = target["expr"]
            for variable, filling in VARIABLES.items():
                text = text.replace(variable, filling)
            found.append((panel["title"], text))
    return found


def promtool(*words: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: `make test-deps` installs it")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_such_that_prometheus_takes_them() -> None:
    promtool("check", "rules", "--lint-fatal", str(RULES))


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", str(RULE_TESTS))


def test_each_alert_is_seen_firing() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}


def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{at}", "expr": text, "labels": {"panel": panel}}
        for at, (panel, text) in enumerate(expressions())
    ]
    asked = tmp_path / "dashboard.yaml"
    asked.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert rules
    assert "$" not in "".join(text for _, text in expressions()), "a variable that is not filled in"
    promtool("check", "rules", str(asked))


def test_every_metric_that_is_asked_for_is_one_of_the_exporters() -> None:
    asked = {name for rule in alerts() for name in NAME.findall(rule["expr"])}
    shown = {name for _, text in expressions() for name in NAME.findall(text)}
    assert asked
    assert not (asked | shown) - metrics.names()


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for _, text in expressions() for name in NAME.findall(text)}
    parts = {f"sealift_registry_last_{how}_timestamp_seconds" for how in ("success", "failure")}
    assert metrics.names() - shown <= parts


def test_each_alert_says_how_bad_it_is_and_leads_to_its_entry_in_the_handbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### (Sealift\w+)$", page, re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in alerts())
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        entry = page.partition(f"### {rule['alert']}\n")[2].partition("\n#")[0]
        assert all(f"**{part}**" in entry for part in ("What it means.", "Look at", "Do")), rule["alert"]


def test_alerts_match_within_one_fleet() -> None:
    """`on` and `by` would drop the labels by which several fleets in one Prometheus differ."""
    for rule in alerts():
        assert not re.search(r"\b(on|by)\s*\(", rule["expr"]), rule["alert"]


def test_the_dashboard_shows_the_fleet_that_is_chosen() -> None:
    chosen = {one["name"] for one in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert {"job", "namespace"} <= chosen
    for text in asked:
        of_the_fleet = re.findall(r'sealift_\w+\{[^}]*job=~"\$job", namespace=~"\$namespace"\}', text)
        assert len(of_the_fleet) == len(NAME.findall(text)), text


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    everything = list(panels())
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = [
        (x, y)
        for panel in everything
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
