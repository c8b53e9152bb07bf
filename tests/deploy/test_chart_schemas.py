"""The API server's own schemas, and those of KEDA and Prometheus' operator, without a cluster."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.chart import CHART, VALUE_SETS, Manifest, rendered, value_set_of

OLDEST, NEWEST = "1.27", "1.36"
"""What Chart.yaml says is the oldest, and a recent one."""
NOT_INSTALLED = "what judges manifests is not installed (make deploy-check)"
MODELS = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "TriggerAuthentication": "cloudcoil.models.keda.v1alpha1",
    "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
}

in_one_process = pytest.mark.xdist_group("models")
"""To import these models takes seconds."""
each_value_set = pytest.mark.parametrize("value_set", VALUE_SETS)


@each_value_set
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_would_take_it(value_set: str, version: str) -> None:
    judge = pytest.importorskip("kubernetes_validate", reason=NOT_INSTALLED)
    for manifest in rendered(value_set).manifests:
        if manifest["kind"] not in MODELS:
            judge.validate(manifest, version, strict=True)


def test_the_oldest_version_judged_is_the_one_that_the_chart_wants() -> None:
    assert f'kubeVersion: ">={OLDEST}.0-0"' in (CHART / "Chart.yaml").read_text()


def test_the_judge_finds_a_key_that_does_not_exist() -> None:
    judge = pytest.importorskip("kubernetes_validate", reason=NOT_INSTALLED)
    deployment = {**rendered("trial").one("Deployment", "sealift-beat")}
    deployment["spec"] = {**deployment["spec"], "replica": 1}
    with pytest.raises(judge.ValidationError, match="replica"):
        judge.validate(deployment, NEWEST, strict=True)


@in_one_process
def test_keda_and_prometheus_would_take_it() -> None:
    for value_set in VALUE_SETS:
        for manifest in rendered(value_set).manifests:
            if manifest["kind"] in MODELS:
                assert not unknown(manifest), (value_set, manifest["metadata"]["name"])


def test_all_kinds_that_are_not_kubernetes_own_are_judged() -> None:
    foreign = {
        manifest["kind"]
        for value_set in VALUE_SETS
        for manifest in rendered(value_set).manifests
        if re.search(r"keda\.sh|coreos\.com", manifest["apiVersion"])
    }
    assert foreign == set(MODELS)


@in_one_process
def test_a_key_that_keda_does_not_know_is_found() -> None:
    scaled = rendered("production").one("ScaledObject", "sealift-worker-eu")
    assert unknown({**scaled, "spec": {**scaled["spec"], "coolDown": 1}}) == ["spec.coolDown"]


def unknown(manifest: Manifest) -> list[str]:
    """Keys that the kind's model leaves out; raises what the model raises about wrong values."""
    module = pytest.importorskip(MODELS[manifest["kind"]], reason=NOT_INSTALLED)
    model = getattr(module, manifest["kind"])
    kept = model.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True, mode="json")
    return lost(manifest, kept)


def lost(given: Any, kept: Any, at: str = "") -> list[str]:
    """The paths of what is in ``given`` and not in ``kept``: models drop what they do not know."""
    if isinstance(given, dict) and isinstance(kept, dict):
        missing = [f"{at}.{key}".lstrip(".") for key in given if key not in kept]
        return missing + [
            path
            for key in given
            if key in kept
            for path in lost(given[key], kept[key], f"{at}.{key}".lstrip("."))
        ]
    if isinstance(given, list) and isinstance(kept, list):
        pairs = enumerate(zip(given, kept, strict=True))
        return [path for place, (one, two) in pairs for path in lost(one, two, f"{at}[{place}]")]
    return []


@each_value_set
def test_helm_finds_nothing_to_mend(value_set: str) -> None:
    helm = pytest.importorskip("helm_python", reason=NOT_INSTALLED)
    found = helm.lint(str(CHART), value_set_of(value_set), strict=True)
    assert not found["errors"]
    assert {message["error"] for message in found["messages"]} <= {"icon is recommended"}
