"""What cannot work is refused by the chart itself: what is wrong, where, what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chart import LEAST, refusal, render, with_values

KEDA = {"worker": {"autoscaling": {"mode": "keda"}}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"image": {"repository": ""}}, "image.repository is not set: build deploy/Dockerfile"),
    "no Redis": ({"redis": {"existingSecret": ""}}, "no Redis: name the Secret that holds its URL"),
    "two servers": (
        {"valkey": {"enabled": True}},
        "redis.existingSecret and valkey.enabled exclude each other",
    ),
    "Sentinels of a trial server": (
        {
            "valkey": {"enabled": True},
            "redis": {"existingSecret": "", "keda": {"sentinelMaster": "fleet"}},
        },
        "redis.keda.sentinelMaster: the server of valkey.enabled has no Sentinels",
    ),
    "a user of a trial server": (
        {
            "valkey": {"enabled": True},
            "redis": {"existingSecret": ""},
            "exporter": {"redisKey": "exporter-url"},
        },
        "exporter.redisKey: the server of valkey.enabled has one account",
    ),
    "an Ingress to nothing": (
        {"serve": {"ingress": {"enabled": True}}},
        "serve.ingress is enabled and serve is not: set serve.enabled=true",
    ),
    "webhooks under no name": (
        {"serve": {"enabled": True, "ingress": {"enabled": True}}},
        "serve.ingress.host is not set",
    ),
    "webhooks without TLS": (
        {"serve": {"enabled": True, "ingress": {"enabled": True, "host": "hooks.example"}}},
        "serve.ingress without TLS: senders' secrets travel in addresses and headers",
    ),
    "a region in capitals": ({"regions": {"EU": {}}}, 'regions: "EU" cannot name a Deployment; use small'),
    "a region with a dash at its end": ({"regions": {"eu-": {}}}, 'regions: "eu-" cannot name a Deployment'),
    "our own queue": ({"regions": {"control": {}}}, '"control" is a name of Sealift\'s own queues'),
    "a long name": ({"regions": {"r" * 45: {}}}, "has 60 characters, 54 are allowed"),
    "an unknown mode": (
        {"regions": {"eu": {"autoscaling": {"mode": "vpa"}}}},
        'regions.eu.autoscaling.mode: "vpa" is not known; use fixed, keda or hpa',
    ),
    "KEDA without a server": (
        KEDA,
        "name a Secret with address, username, password in redis.keda.existingSecret",
    ),
    "fewer at most than at least": (
        {"regions": {"eu": {"autoscaling": {"mode": "hpa", "minReplicas": 5, "maxReplicas": 4}}}},
        "regions.eu.autoscaling: maxReplicas 4 is below minReplicas 5",
    ),
    "an HPA from nothing": (
        {"regions": {"eu": {"autoscaling": {"mode": "hpa", "minReplicas": 0}}}},
        "regions.eu.autoscaling.minReplicas: 0 needs mode keda",
    ),
    "nobody for what belongs to no region": (
        {
            **KEDA,
            "redis": {"keda": {"existingSecret": "k"}},
            "regions": {"eu": {"autoscaling": {"minReplicas": 0}}},
        },
        "every region may have 0 workers: nobody would take what belongs to no region",
    ),
    "an open Flower": (
        {"flower": {"enabled": True, "ingress": {"enabled": True, "host": "flower.example"}}},
        "flower.ingress without authentication: Flower can stop workers",
    ),
    "an Ingress to nowhere": (
        {
            "flower": {
                "ingress": {"enabled": True, "host": "flower.example"},
                "auth": {"existingSecret": "login"},
            }
        },
        "flower.ingress is enabled and flower is not",
    ),
    "an Ingress without a name": (
        {"flower": {"enabled": True, "auth": {"existingSecret": "login"}, "ingress": {"enabled": True}}},
        "flower.ingress.host is not set",
    ),
    "a path that only Flower knows": (
        {"flower": {"env": [{"name": "FLOWER_URL_PREFIX", "value": "flower"}]}},
        "flower.env: FLOWER_URL_PREFIX would leave probe and Ingress behind: use flower.urlPrefix",
    ),
    "a path with slashes at its ends": (
        {"flower": {"urlPrefix": "/flower/"}},
        "at '/flower/urlPrefix': ",
    ),
    "a login by a provider": (
        {"flower": {"env": [{"name": "FLOWER_AUTH", "value": ".*@example.com"}]}},
        "flower.env: FLOWER_AUTH: the chart's Flower knows only logins by USER:PASSWORD",
    ),
    "a provider's secret": (
        {"flower": {"env": [{"name": "FLOWER_OAUTH2_SECRET", "value": "x"}]}},
        "flower.env: FLOWER_OAUTH2_SECRET: the chart's Flower knows only",
    ),
    "nothing to monitor": (
        {"exporter": {"enabled": False}, "monitoring": {"serviceMonitor": {"enabled": True}}},
        "monitoring.serviceMonitor is enabled and exporter is not",
    ),
    "alerts about nothing": (
        {"exporter": {"enabled": False}, "monitoring": {"prometheusRule": {"enabled": True}}},
        "monitoring.prometheusRule is enabled and exporter is not",
    ),
    "a URL in plain sight": (
        {"settings": {"redis_url": "redis://:secret@host"}},
        "settings.redis_url is not set here: use redis.existingSecret",
    ),
    "what the chart reckons with": (
        {"regions": {"eu": {"settings": {"soft_shutdown_s": 600}}}},
        "regions.eu.settings.soft_shutdown_s is not set here: use worker.softShutdownSeconds",
    ),
    "a prefix for one region": (
        {"regions": {"eu": {"settings": {"redis_prefix": "eu:"}}}},
        "regions.eu.settings.redis_prefix: a fleet has one; use settings.redis_prefix",
    ),
    "two fleet files": (
        {"fleetFile": "mirrors: []", "existingFleetConfigMap": "fleet"},
        "fleetFile and existingFleetConfigMap exclude each other",
    ),
    "a broken fleet file": ({"fleetFile": "mirrors: ["}, "fleetFile is not YAML: "),
    "a list of registries": (
        {"fleetFile": "registries: [ghcr.io]"},
        "fleetFile: registries is no mapping: write each as HOST: {",
    ),
    "a registry that is a word": (
        {"fleetFile": "registries: {ghcr.io: me}"},
        "fleetFile: registries.ghcr.io is no mapping: write {username",
    ),
    "accounts that are no list": (
        {"fleetFile": "registries: {ghcr.io: {accounts: {username: me}}}"},
        "fleetFile: registries.ghcr.io.accounts is no list: write [{username",
    ),
    "an account that is a word": (
        {"fleetFile": "registries: {ghcr.io: {accounts: [me]}}"},
        "fleetFile: registries.ghcr.io.accounts holds what is no mapping: write [{username",
    ),
    "an unknown value": (
        {"worker": {"procesess": 2}},
        "at '/worker': additional properties 'procesess' not allowed",
    ),
    "an unknown setting": (
        {"settings": {"copy_thread": 2}},
        "additional properties 'copy_thread' not allowed",
    ),
    "a level in small letters": (
        {"settings": {"log_level": "info"}},
        "at '/settings/log_level': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'",
    ),
    "threads without end": (
        {"regions": {"eu": {"settings": {"copy_threads": 65}}}},
        "at '/regions/eu/settings/copy_threads': maximum",
    ),
    "a grace of no length": (
        {"worker": {"softShutdownSeconds": 0}},
        "at '/worker/softShutdownSeconds': minimum",
    ),
}
SECRETS = {
    "a password": (
        "registries: {ghcr.io: {username: me, password: hunter2}}",
        "registries.ghcr.io.password holds a secret: write env:NAME or file:PATH",
    ),
    "a webhook's": (
        "webhooks: [{name: hub, kind: dockerhub, secret: hunter2}]",
        "webhooks[0].secret holds a secret: write env:NAME or file:PATH",
    ),
    "one of several": (
        "registries: {docker.io: {accounts: [{username: a, password: env:A}, {username: b, password: x}]}}",
        "registries.docker.io.password holds a secret",
    ),
    "a number": (
        "registries: {ghcr.io: {username: me, password: 12345}}",
        "registries.ghcr.io.password holds a secret",
    ),
    "a listing's token": (
        "registries: {quay.io: {listing_token: hunter2}}",
        "registries.quay.io.listing_token holds a secret",
    ),
    "a proxy's account": (
        "registries: {ghcr.io: {proxy: 'http://me:hunter2@proxy.example'}}",
        "registries.ghcr.io.proxy holds an account: write env:NAME",
    ),
    "an address of notifications": (
        "notify: [{name: team, to: 'slack://hunter2/b/c'}]",
        'the address of "team" may hold a secret: write env:NAME or file:PATH',
    ),
    "an account in one": (
        "notify: [{name: team, to: 'json://me:hunter2@host/'}]",
        'the address of "team" may hold a secret',
    ),
    "a query in one": (
        "notify: [{name: team, to: 'json://host/?+X=hunter2'}]",
        'the address of "team" may hold a secret',
    ),
    "a server's URL": (
        "redis_url: redis://:hunter2@host",
        "redis_url: leave it out, a URL may hold a password",
    ),
}


@pytest.mark.parametrize(("values", "said"), REFUSED.values(), ids=REFUSED)
def test_wrong_values_are_named_with_what_to_do(values: dict[str, Any], said: str) -> None:
    assert said in refusal(with_values(values))


@pytest.mark.parametrize(("fleet_file", "said"), SECRETS.values(), ids=SECRETS)
def test_a_fleet_file_with_a_secret_is_refused_without_repeating_it(fleet_file: str, said: str) -> None:
    words = refusal(with_values({"fleetFile": fleet_file}))
    assert said in words
    assert "hunter2" not in words


def test_the_least_that_is_needed_is_enough() -> None:
    chart = render(LEAST)
    assert {m["metadata"]["name"] for m in chart.of("Deployment")} == {
        "sealift-worker-eu",
        "sealift-beat",
        "sealift-exporter",
    }
    assert "There is no fleet file yet" in chart.notes


def test_a_region_without_anything_of_its_own_may_be_left_empty() -> None:
    assert render(with_values({"regions": {"us": None}})).one("Deployment", "sealift-worker-us")


def test_two_releases_in_one_namespace_share_no_names() -> None:
    names = [
        {(m["kind"], m["metadata"]["name"]) for m in render(LEAST, name=release).manifests}
        for release in ("blue", "sealift-green")
    ]
    assert not names[0] & names[1]
    assert ("Deployment", "blue-sealift-worker-eu") in names[0]


def test_a_release_may_be_called_by_a_number() -> None:
    """Unquoted, `helm install 2024` would make a number of a label, which is no label."""
    for manifest in render(
        with_values({"valkey": {"enabled": True}, "redis": {"existingSecret": ""}}), name="2024"
    ).manifests:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "2024"
        assert all_text(manifest), manifest["metadata"]["name"]


def all_text(manifest: Any) -> bool:
    """Whether each label that is matched anywhere in it is text."""
    if isinstance(manifest, dict):
        matched = manifest.get("matchLabels", {})
        return all(isinstance(text, str) for text in matched.values()) and all(
            map(all_text, manifest.values())
        )
    return all(map(all_text, manifest)) if isinstance(manifest, list) else True
