"""The Kustomize example: what it builds on and what it patches exist."""

from __future__ import annotations

import json

import yaml

from tests.support.chart import CHART, ROOT, render

FOLDER = ROOT / "deploy" / "kustomize"
EXAMPLE = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())


def test_its_chart_is_ours_and_takes_its_values() -> None:
    (chart,) = EXAMPLE["helmCharts"]
    assert (FOLDER / EXAMPLE["helmGlobals"]["chartHome"] / chart["name"]).resolve() == CHART
    assert render(values(), name=chart["releaseName"]).of("Deployment")


def test_each_patch_fits_something() -> None:
    rendered = render(values(), name=EXAMPLE["helmCharts"][0]["releaseName"])
    for patch in EXAMPLE["patches"]:
        manifest = rendered.one(patch["target"]["kind"], patch["target"]["name"])
        for step in yaml.safe_load(patch["patch"]):
            *parents, _ = step["path"].strip("/").split("/")
            for key in parents:
                manifest = manifest[key]
            assert step["op"] == "add", json.dumps(step)


def values() -> dict[str, object]:
    document = yaml.safe_load((FOLDER / EXAMPLE["helmCharts"][0]["valuesFile"]).read_text())
    assert isinstance(document, dict)
    return document
