"""What holds for whatever the chart renders, with each of its example values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
import yaml

from config.fleet import parse_fleet
from config.settings import Settings
from tasks.configuration import celery_configuration
from tasks.terms import check_fleet
from tests.support.chart import (
    CHART,
    LEAST,
    ROOT,
    SETTINGS,
    VALUE_SETS,
    Manifest,
    Rendered,
    check_command,
    environment_of,
    render,
    rendered,
    settings_schema,
    value_set_of,
    with_values,
)
from workers import leaving, metrics, probe

OTHER_VARIABLES = {"DOCKER_CONFIG", "FLOWER_BASIC_AUTH"}
HOLDS_A_SECRET = re.compile(r"URL|PASSWORD|TOKEN|AUTH$|KEY$")
LEFT_OUT = {"0.0.0.0/0": {"169.254.0.0/16"}, "::/0": {"fe80::/10", "fd00:ec2::254/128"}}
"""By range: where clouds have their metadata services in it."""
TO_ANYWHERE = ({53}, {6379}, {6380}, {6379, 26379})
"""Ports of resolvers and of a Redis elsewhere, of which no address is known."""
UNSEEN_FROM_OUTSIDE = {"/metrics", "/healthcheck"}
"""What Flower shows to anybody, whoever it wants to log in."""

each_value_set = pytest.mark.parametrize("value_set", VALUE_SETS)


def regions_of(value_set: str) -> dict[str, dict[str, Any]]:
    """By region: what the chart's defaults and the values say together about its workers."""
    values = with_values(value_set_of(value_set), base=yaml.safe_load((CHART / "values.yaml").read_text()))
    return {name: with_values(own, base=values["worker"]) for name, own in values["regions"].items()}


def workers(chart: Rendered) -> Iterator[Manifest]:
    for deployment in chart.of("Deployment"):
        if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "worker":
            yield deployment


def mounts_of(container: Manifest) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


def queue_lists(region: str, prefix: str) -> set[str]:
    """The Redis keys of a region's messages, waiting or taken, as Celery is told to name them."""
    settings = Settings(redis_prefix=prefix)
    options = celery_configuration(settings, "redis://localhost:6379/0", [region], region)[
        "broker_transport_options"
    ]
    waiting = {f"{region}{options['sep']}{step}" if step else region for step in options["priority_steps"]}
    return {f"{options['global_keyprefix']}{key}" for key in (*waiting, options["unacked_key"])}


@each_value_set
def test_each_region_has_workers_a_scaler_and_a_budget(value_set: str) -> None:
    chart = rendered(value_set)
    for region, terms in regions_of(value_set).items():
        name, scale = f"sealift-worker-{region}", terms["autoscaling"]
        spec = chart.one("Deployment", name)["spec"]
        assert spec["template"]["spec"]["containers"][0]["args"] == ["worker", "--region", region]
        budget = chart.one("PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "without Redis no Pod is ready"
        assert spec.get("replicas") == (scale["replicas"] if scale["mode"] == "fixed" else None)
        kind = {"keda": "ScaledObject", "hpa": "HorizontalPodAutoscaler"}.get(scale["mode"])
        if kind:
            assert chart.one(kind, name)["spec"]["scaleTargetRef"]["name"] == name
    assert len(list(workers(chart))) == len(regions_of(value_set))


@each_value_set
def test_keda_counts_every_list_of_a_region_and_what_is_taken(value_set: str) -> None:
    chart = rendered(value_set)
    prefix = value_set_of(value_set).get("settings", {}).get("redis_prefix", "sealift:")
    for scaled in chart.of("ScaledObject"):
        region = scaled["metadata"]["labels"]["sealift/region"]
        triggers = {trigger["name"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}
        modifiers = scaled["spec"]["advanced"]["scalingModifiers"]
        assert {metadata["listName"] for metadata in triggers.values()} == queue_lists(region, prefix)
        assert modifiers["formula"].split(" + ") == list(triggers)
        for trigger in scaled["spec"]["triggers"]:
            chart.one("TriggerAuthentication", trigger["authenticationRef"]["name"])


def example_of_the_readme() -> dict[str, Any]:
    """The values under "In earnest"."""
    readme = (CHART / "README.md").read_text().partition("## In earnest\n")[2]
    example = yaml.safe_load(readme.partition("```yaml\n")[2].partition("```")[0])
    assert isinstance(example, dict)
    return example


@pytest.mark.parametrize(
    "values", [value_set_of("production"), example_of_the_readme()], ids=["ci", "readme"]
)
def test_where_the_fleet_needs_a_private_authority_keda_is_given_it_too(values: dict[str, Any]) -> None:
    (login,) = render(values).of("TriggerAuthentication")
    given = {entry["parameter"]: entry["key"] for entry in login["spec"]["secretTargetRef"]}
    assert values["redis"]["tlsSecret"]
    assert given["ca"] == "ca"
    commands = (CHART / "README.md").read_text()
    secret = re.search(
        rf"create secret generic {values['redis']['keda']['existingSecret']} [^`]*?\nkubectl", commands
    )
    assert secret
    assert set(re.findall(r"--from-(?:literal|file)=(\w+)=", secret[0])) == set(given.values())


@each_value_set
def test_a_worker_has_more_time_to_leave_than_it_takes(value_set: str) -> None:
    for deployment in workers(rendered(value_set)):
        pod = deployment["spec"]["template"]["spec"]
        soft_s = float(environment_of(pod["containers"][0])["SEALIFT_SOFT_SHUTDOWN_S"])
        longest_s = soft_s + leaving.LET_GO_S + leaving.GOODBYE_S
        assert pod["terminationGracePeriodSeconds"] > longest_s


@each_value_set
def test_probes_ask_what_can_be_answered_about_a_file_that_can_be_written(value_set: str) -> None:
    for name, container in rendered(value_set).containers():
        if container["args" if "args" in container else "command"][0] not in {"worker", "beat"}:
            continue
        for kind, question in (("startup", "started"), ("readiness", "ready"), ("liveness", "live")):
            command = container[f"{kind}Probe"]["exec"]["command"]
            assert command == ["python", "-P", "-m", probe.__name__, question], name
        assert environment_of(container)["SEALIFT_HEARTBEAT_FILE"].startswith("/tmp/"), name
        assert mounts_of(container)["/tmp"] == "tmp", name


@each_value_set
def test_no_secret_stands_anywhere_but_in_a_secret(value_set: str) -> None:
    chart = rendered(value_set)
    secrets = {
        text
        for secret in chart.of("Secret")
        for key, text in secret["stringData"].items()
        if key != "address"
    }
    elsewhere = json.dumps([manifest for manifest in chart.manifests if manifest["kind"] != "Secret"])
    assert not [text for text in secrets if text in elsewhere]
    for where, container in chart.containers():
        for name, value in environment_of(container).items():
            if HOLDS_A_SECRET.search(name):
                assert "secretKeyRef" in value, f"{where}: {name}"


@each_value_set
def test_every_variable_is_a_setting(value_set: str) -> None:
    chart = rendered(value_set)
    named = {name for _, container in chart.containers() for name in environment_of(container)}
    named |= set(chart.one("ConfigMap", "sealift-settings")["data"])
    assert named <= SETTINGS | OTHER_VARIABLES


def test_settings_are_written_as_they_were_given() -> None:
    """YAML's numbers are floats to Helm, and Go writes large ones as 2.592e+06, which is no whole number."""
    given = {"mount_ttl_s": 2_592_000, "retry_budget_s": 7.5, "haul_mib": 1, "log_level": "DEBUG"}
    text = yaml.safe_dump({**LEAST, "settings": given, "regions": {"eu": {"settings": given}}})
    chart = render(yaml.safe_load(text))
    written = {name: str(value) for name, value in given.items()}
    for settings in (
        chart.one("ConfigMap", "sealift-settings")["data"],
        environment_of(dict(chart.containers())["sealift-worker-eu"]),
    ):
        assert {name: settings[f"SEALIFT_{name.upper()}"] for name in given} == written


def test_the_chart_offers_every_setting_and_takes_what_the_fleet_takes() -> None:
    """One that is missing in values.schema.json, under $defs.settings, could not be set in a cluster.

    One that takes more than the fleet does would be installed, and no Pod would start.
    """
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["$defs"]["settings"]["properties"] == settings_schema(), json.dumps(settings_schema())


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(paths(values)) == set(schema_paths(schema, schema)) - {"global"}


def paths(values: object, at: str = "") -> Iterator[str]:
    """``a.b`` of each key; those whose content is free (a mapping that is empty or not ours) end there."""
    if isinstance(values, dict) and at.rpartition(".")[2] not in {"resources", "labels"}:
        for key, value in values.items():
            yield from paths(value, f"{at}.{key}".lstrip("."))
        if values:
            return
    yield at


def schema_paths(schema: Any, root: Any, at: str = "") -> Iterator[str]:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        if name == "settings":  # free in values.yaml: whichever one sets
            yield at
            return
        schema = root["$defs"][name]
    if properties := schema.get("properties"):
        for key, value in properties.items():
            yield from schema_paths(value, root, f"{at}.{key}".lstrip("."))
    else:
        yield at


@pytest.mark.parametrize("part", ["worker", "beat", "exporter", "flower", "serve"])
def test_every_command_is_one_with_these_options(part: str) -> None:
    told = [
        container["args"]
        for value_set in VALUE_SETS
        for name, container in rendered(value_set).containers()
        if name.startswith(f"sealift-{part}")
    ]
    assert told
    for words in told:
        check_command(words)


@each_value_set
def test_every_container_has_no_rights_that_it_does_not_need(value_set: str) -> None:
    chart = rendered(value_set)
    for name, template in chart.pods():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
    for name, container in chart.containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name
        assert not container["image"].endswith((":", ":latest")), name


@each_value_set
def test_what_refers_to_something_refers_to_something_that_is_there(value_set: str) -> None:
    chart = rendered(value_set)
    labels = [template["metadata"]["labels"] for _, template in chart.pods()]
    services = [service["metadata"]["labels"] for service in chart.of("Service")]
    for manifest in chart.manifests:
        selector = selector_of(manifest)
        among = services if manifest["kind"] == "ServiceMonitor" else labels
        assert selector is None or any(selector.items() <= one.items() for one in among), manifest["metadata"]
    ours = {manifest["metadata"]["name"] for manifest in chart.of("ConfigMap")} | {"fleet"}
    for name, template in chart.pods():
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        volumes |= {"data": {}} if name.endswith("valkey") else {}
        for container in template["spec"]["containers"]:
            assert set(mounts_of(container).values()) <= set(volumes), name
        assert {v["configMap"]["name"] for v in volumes.values() if "configMap" in v} <= ours, name


def selector_of(manifest: Manifest) -> dict[str, str] | None:
    spec = manifest.get("spec", {})
    selector = spec.get("podSelector") or spec.get("selector")
    return selector.get("matchLabels", selector) if selector else None


@each_value_set
def test_pods_are_reached_only_where_they_listen(value_set: str) -> None:
    chart = rendered(value_set)
    if value_set_of(value_set).get("networkPolicy", {}).get("enabled") is False:
        assert not chart.of("NetworkPolicy")
        return
    for name, template in chart.pods():
        policy = policy_of(chart, template)
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        listening = {
            port["containerPort"] for c in template["spec"]["containers"] for port in c.get("ports", ())
        }
        opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert opened <= listening, name
        assert not all_open(policy, name)


def policy_of(chart: Rendered, template: Manifest) -> Manifest:
    (policy,) = [
        policy["spec"]
        for policy in chart.of("NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ]
    return dict(policy)


def all_open(policy: Manifest, name: str) -> list[Any]:
    """Rules that let anybody in or out to anything, beside those to resolvers and to a server elsewhere.

    Asserts of each range that stands for every address that the addresses of metadata services are left out.
    """
    wide = []
    for rule in policy["ingress"]:
        wide += [rule] if not (rule.get("from") and rule.get("ports")) else []
    for rule in policy["egress"]:
        assert rule["ports"], name
        ports = {port["port"] for port in rule["ports"]}
        wide += [rule] if "to" not in rule and ports not in TO_ANYWHERE else []
        assert rule.get("to", True), name
        for peer in rule.get("to", ()):
            block = peer.get("ipBlock", {})
            assert LEFT_OUT.get(block.get("cidr"), set()) <= set(block.get("except", ())), name
    return wide


NOBODY: dict[str, tuple[dict[str, Any], str]] = {
    "no address to workers": ({"registries": {"cidrs": []}, "notify": {"cidrs": []}}, "worker-eu"),
    "no port to workers": ({"registries": {"ports": []}, "notify": {"ports": []}}, "worker-eu"),
    "no address of receivers": ({"notify": {"cidrs": []}}, "beat"),
    "no port of receivers": ({"notify": {"ports": []}}, "beat"),
    "nobody to the exporter": ({"exporterFrom": []}, "exporter"),
    "nobody to Flower": ({"flowerFrom": []}, "flower"),
    "nobody to serve": ({"serveFrom": []}, "serve"),
}


@pytest.mark.parametrize(("policy", "part"), NOBODY.values(), ids=NOBODY)
def test_an_empty_list_lets_nobody_through(policy: dict[str, Any], part: str) -> None:
    """To Kubernetes one means everybody, so the chart leaves the rule out."""
    values = with_values({"networkPolicy": {**policy, "extraEgress": []}}, base=value_set_of("production"))
    chart = render(values)
    templates = dict(chart.pods())
    asked = policy_of(chart, templates[f"sealift-{part}"])
    for name, template in templates.items():
        assert not all_open(policy_of(chart, template), name)
    assert asked["ingress"] == []
    assert not any("to" in rule for rule in asked["egress"])


def test_a_fleet_file_reaches_the_workers_as_it_was_written() -> None:
    """A chart that parsed it would make 1.1 of the tag 1.10."""
    chart = rendered("production")
    written = value_set_of("production")["fleetFile"]
    text = chart.one("ConfigMap", "sealift-fleet")["data"]["sealift.yaml"]
    assert text.strip() == written.strip()
    fleet = parse_fleet(text)
    check_fleet(fleet)
    assert "1.10" in fleet.mirrors[0].tags.include
    assert {target.region for target in fleet.mirrors[0].targets} == set(regions_of("production"))


def test_another_configuration_starts_workers_anew() -> None:
    def annotation(**changes: Any) -> str:
        deployment = render(with_values(changes)).one("Deployment", "sealift-worker-eu")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    stamps = {annotation(), annotation(settings={"copy_threads": 8}), annotation(fleetFile="mirrors: []")}
    assert len(stamps) == 3


def test_another_configuration_starts_the_trial_server_anew() -> None:
    stateful = rendered("trial").one("StatefulSet", "sealift-valkey")
    conf = rendered("trial").one("ConfigMap", "sealift-valkey")["data"]["valkey.conf"]
    stamp = stateful["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    assert stamp == sha256(conf.strip().encode()).hexdigest()


def test_logins_are_mounted_as_a_folder_so_that_a_change_is_seen() -> None:
    for region, secret in (("eu", "registry-logins-eu"), ("us", "registry-logins")):
        pod = rendered("production").one("Deployment", f"sealift-worker-{region}")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        folder = environment_of(container)["DOCKER_CONFIG"]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == folder]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        assert "subPath" not in mount
        assert volume["secret"]["secretName"] == secret
        assert volume["secret"]["items"] == [{"key": ".dockerconfigjson", "path": "config.json"}]


def test_only_workers_are_given_accounts_of_registries() -> None:
    for name, container in rendered("production").containers():
        if "worker" not in name:
            assert "DOCKER_CONFIG" not in environment_of(container), name
            secrets = [one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one]
            due = ["receivers"] if "beat" in name else ["webhooks"] if "serve" in name else []
            assert secrets == due, name


@pytest.mark.parametrize("part", ["worker-eu", "worker-us", "beat"])
def test_whoever_may_tell_receivers_knows_them_and_gets_there(part: str) -> None:
    values = with_values({"networkPolicy": {"notify": {"cidrs": ["10.1.0.0/16"], "ports": [8443]}}})
    told = render(with_values({"notify": {"existingSecret": "receivers"}}, base=values_with_us(values)))
    template = dict(told.pods())[f"sealift-{part}"]
    (container,) = template["spec"]["containers"]
    assert {"secretRef": {"name": "receivers"}} in container["envFrom"]
    way = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 8443, "protocol": "TCP"}]}
    assert way in policy_of(told, template)["egress"]

    nobody = render(values_with_us(values))
    assert way not in policy_of(nobody, dict(nobody.pods())[f"sealift-{part}"])["egress"]


def values_with_us(values: dict[str, Any]) -> dict[str, Any]:
    return with_values({"regions": {"eu": {}, "us": {}}}, base=values)


def test_flower_without_a_login_listens_to_its_own_pod_only() -> None:
    chart = rendered("trial")
    deployment = chart.one("Deployment", "sealift-flower")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert not [s for s in chart.of("Service") if s["metadata"]["name"] == "sealift-flower"]


def test_the_rule_that_the_readme_shows_lets_workers_out_to_a_workload_identity() -> None:
    shown = (CHART / "README.md").read_text().partition("A cloud's workload identity")[2]
    values = yaml.safe_load(shown.partition("```yaml\n")[2].partition("```")[0])
    for name, policy in (
        (p["metadata"]["name"], p["spec"]) for p in render(with_values(values)).of("NetworkPolicy")
    ):
        peers = [
            peer["ipBlock"]["cidr"]
            for rule in policy["egress"]
            for peer in rule.get("to", ())
            if "ipBlock" in peer
        ]
        assert ("169.254.170.23/32" in peers) == name.endswith("worker"), name


def test_the_notes_name_a_region_that_has_a_worker() -> None:
    regions = {
        "aa": {"autoscaling": {"minReplicas": 0}},
        "bb": {"autoscaling": {"mode": "fixed", "replicas": 0}},
    }
    notes = render(with_values({"regions": regions}, base=value_set_of("production"))).notes
    assert "workers for aa, bb, eu, us." in notes
    assert notes.count("exec deploy/sealift-worker-eu -- sealift") == 2
    assert "exec deploy/sealift-worker-aa" not in notes


def test_flower_may_be_given_variables_of_its_own() -> None:
    secret = {
        "name": "FLOWER_COOKIE_SECRET",
        "valueFrom": {"secretKeyRef": {"name": "login", "key": "cookie"}},
    }
    own = [{"name": "FLOWER_READ_ONLY", "value": "true"}, secret]
    chart = render(with_values({"flower": {"env": own}}, base=value_set_of("production")))
    for name, container in chart.containers():
        assert [entry for entry in container["env"] if entry in own] == (own if "flower" in name else []), (
            name
        )
    flower = environment_of(dict(chart.containers())["sealift-flower"])
    assert {"SEALIFT_REDIS_URL", "FLOWER_BASIC_AUTH"} <= set(flower)


@pytest.mark.parametrize("prefix", ["", "fleet/flower"])
def test_an_ingress_leads_to_all_of_flower_but_what_it_shows_to_anybody(prefix: str) -> None:
    flower = pytest.importorskip("flower.urls")
    chart = render(with_values({"flower": {"urlPrefix": prefix}}, base=value_set_of("production")))
    container, below = dict(chart.containers())["sealift-flower"], f"/{prefix}" if prefix else ""
    assert environment_of(container).get("FLOWER_URL_PREFIX", "") == prefix
    assert container["readinessProbe"]["httpGet"]["path"] == f"{below}/healthcheck"
    assert f"https://flower.example{below}/" in chart.notes
    (rule,) = chart.one("Ingress", "sealift-flower")["spec"]["rules"]
    ways = [(path["path"], path["pathType"]) for path in rule["http"]["paths"]]
    patterns = [getattr(entry, "regex", None) or entry[0] for entry in flower.handlers]
    asked = {
        re.sub(r"\(.*|/\?|\$$|\.\*", "", pattern.pattern if isinstance(pattern, re.Pattern) else pattern)
        for pattern in patterns
    } - {""}

    def is_led(url: str) -> bool:
        return any(
            below + url == path if kind == "Exact" else f"{below}{url.rstrip('/')}/".startswith(f"{path}/")
            for path, kind in ways
        )

    assert {"/", "/api/task/info/", *UNSEEN_FROM_OUTSIDE} <= asked
    assert {url for url in asked if not is_led(url)} == UNSEEN_FROM_OUTSIDE


def test_the_metric_that_an_hpa_asks_for_is_exposed() -> None:
    (hpa,) = rendered("region").of("HorizontalPodAutoscaler")
    assert {metric["external"]["metric"]["name"] for metric in hpa["spec"]["metrics"]} <= metrics.names()


def test_rules_reach_prometheus_as_they_are_tested() -> None:
    groups = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]
    assert rendered("production").one("PrometheusRule", "sealift")["spec"]["groups"] == groups


def test_alerts_lead_to_the_handbook_where_it_is_shown() -> None:
    base = "https://wiki.example/sealift/operations"
    own = {"monitoring": {"prometheusRule": {"runbookBase": base}}}
    rule = render(with_values(own, base=value_set_of("production"))).one("PrometheusRule", "sealift")
    for group in rule["spec"]["groups"]:
        for alert in group["rules"]:
            assert alert["annotations"]["runbook_url"] == f"{base}#{alert['alert'].lower()}"


def test_what_the_readme_says_of_an_installation_in_earnest_is_all_that_it_takes() -> None:
    section = (CHART / "README.md").read_text().partition("## In earnest\n")[2].partition("\n## ")[0]
    secrets = set(re.findall(r"kubectl create secret \S+ (\S+)", section))
    values = json.dumps(example_of_the_readme())
    assert "kubectl create namespace mirror" in section
    assert re.search(
        r"^helm upgrade --install .* --namespace mirror .*--set-file fleetFile=", section, re.MULTILINE
    )
    assert secrets
    assert not [name for name in secrets if f'"{name}"' not in values]


def test_the_charts_version_is_the_products() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (version[1], version[1])


def test_an_exporter_may_have_a_redis_user_of_its_own() -> None:
    keys = {
        name: environment_of(container)["SEALIFT_REDIS_URL"]["secretKeyRef"]["key"]
        for name, container in rendered("production").containers()
    }
    assert keys.pop("sealift-exporter") == "exporter-url"
    assert set(keys.values()) == {"url"}
