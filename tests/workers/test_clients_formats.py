"""Each client's format by its own rules: what is in it, and what it cannot say."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import yaml

from mirror.clients import Candidate, Choice
from mirror.ledger.measured import Measurement, Reach
from workers.clients.made import Made, Making, Misfit, Trust

HEADER = ("Made by `sealift clients app`, for somebody in region eu.", "Now.", "  sealift clients app")
FORMATS = ("containerd", "containers", "docker", "github", "kubernetes")
ROOT_KEYS = {
    "server",
    "host",
    "capabilities",
    "ca",
    "client",
    "skip_verify",
    "header",
    "override_path",
    "dial_timeout",
}
HOST_KEYS = ROOT_KEYS - {"server", "host"}
"""containerd's docs/hosts.md."""
REGISTRY_KEYS = {"prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only"}
MIRROR_KEYS = {"location", "insecure", "pull-from-mirror"}
"""containers-registries.conf(5)."""


def format_of(name: str) -> ModuleType:
    return import_module(f"workers.clients.{name}")


def one(place: str, **more: Any) -> Candidate:
    host = place.partition("/")[0]
    last = Measurement("eu", host, 1.0, up=True)
    return Candidate(place, Reach("eu", host, last, latency_s=0.01, bytes_per_second=2e7, fresh=True), **more)


HUB = one("docker.io/org/app", is_upstream=True)
EU, US = one("eu.example/org/app"), one("us.example:5000/org/app")


def made(
    form: str, *candidates: Candidate, trust: Mapping[str, Trust] | None = None, is_wildcard: bool = False
) -> Made:
    ordered = tuple(sorted(candidates, key=lambda each: bool(each.left_out)))
    choice = Choice("app", "eu", is_wildcard, ordered)
    result: Made = format_of(form).make(Making(choice, trust or {}, "1.2", HEADER))
    return result


def toml_of(made_: Made) -> dict[str, Any]:
    (text,) = made_.texts.values()
    return tomllib.loads(text)


# -- containerd ------------------------------------------------------------------------------------


def test_hosts_toml_has_containerds_keys_the_hosts_in_their_order_and_the_upstream_last() -> None:
    result = made("containerd", EU, US, HUB, trust={"us.example:5000": Trust(ca_file="/ca.pem")})
    assert list(result.texts) == ["docker.io/hosts.toml"]
    document = toml_of(result)
    assert document.keys() <= ROOT_KEYS
    assert document["server"] == "https://registry-1.docker.io"
    assert list(document["host"]) == ["https://eu.example", "https://us.example:5000"]
    for host in document["host"].values():
        assert host.keys() <= HOST_KEYS
        assert host["capabilities"] == ["pull", "resolve"]
        assert host["dial_timeout"] == "3s"
    assert document["host"]["https://us.example:5000"]["ca"] == "/ca.pem"
    assert result.values == {"docker.io/hosts.toml": document}


def test_an_upstream_before_others_is_a_host_of_its_own_too() -> None:
    document = toml_of(made("containerd", EU, HUB, US))
    assert list(document["host"]) == [
        "https://eu.example",
        "https://registry-1.docker.io",
        "https://us.example:5000",
    ]


def test_a_prefix_goes_into_the_path_and_any_other_name_is_left_out() -> None:
    longer, other = one("eu.example/hub/org/app"), one("us.example/app")
    result = made("containerd", longer, other, HUB)
    host = toml_of(result)["host"]
    assert list(host) == ["https://eu.example/v2/hub"]
    assert host["https://eu.example/v2/hub"]["override_path"] is True
    assert "# Left out: us.example/app: containerd cannot rename" in result.texts["docker.io/hosts.toml"]


@pytest.mark.parametrize("shared", ["ghcr.io", "quay.io", "docker.io"])
def test_where_names_are_anybodys_only_digests_are_asked_for(shared: str) -> None:
    upstream = one("up.example/org/app", is_upstream=True)
    (host,) = toml_of(made("containerd", one(f"{shared}/org/app"), upstream))["host"].values()
    assert host["capabilities"] == ["pull"]


def test_who_is_not_flipped_together_or_current_is_asked_for_digests_only() -> None:
    doubted = one("eu.example/org/app", unresolved="its tags move on their own (finalize: each)")
    result = made("containerd", doubted, HUB)
    assert toml_of(result)["host"]["https://eu.example"]["capabilities"] == ["pull"]
    assert 'No "resolve": its tags move on their own' in next(iter(result.texts.values()))
    (registry,) = toml_of(made("containers", doubted, HUB))["registry"]
    assert registry["mirror"][0]["pull-from-mirror"] == "digest-only"


def test_sides_of_a_two_way_mirror_get_a_file_for_each_name_that_references_have() -> None:
    sides = one("eu.example/app", is_upstream=True), one("us.example:5000/app", is_upstream=True)
    result = made("containerd", *sides)
    assert set(result.texts) == {"eu.example/hosts.toml", "us.example_5000_/hosts.toml"}
    far = tomllib.loads(result.texts["us.example_5000_/hosts.toml"])
    assert (far["server"], list(far["host"])) == ("https://us.example:5000", ["https://eu.example"])
    registries = toml_of(made("containers", *sides))["registry"]
    assert [each["prefix"] for each in registries] == ["eu.example/app", "us.example:5000/app"]


# -- containers ------------------------------------------------------------------------------------


def test_registries_conf_renames_and_keeps_the_order() -> None:
    renamed = one("eu.example/quite/another")
    result = made("containers", renamed, HUB, US, trust={"eu.example": Trust(is_plain=True)})
    assert list(result.texts) == ["app.conf"]
    (registry,) = toml_of(result)["registry"]
    assert registry.keys() <= REGISTRY_KEYS
    assert (registry["prefix"], registry["location"]) == ("docker.io/org/app",) * 2
    assert [each["location"] for each in registry["mirror"]] == [
        "eu.example/quite/another",
        "docker.io/org/app",
        "us.example:5000/org/app",
    ]
    assert all(each.keys() <= MIRROR_KEYS for each in registry["mirror"])
    assert [each.get("insecure", False) for each in registry["mirror"]] == [True, False, False]


# -- docker ----------------------------------------------------------------------------------------


def test_daemon_json_has_mirrors_of_the_same_name_that_are_somebodys_own_and_current() -> None:
    others = (
        one("ghcr.io/org/app"),
        one("eu.example/renamed"),
        one("old.example/org/app", unresolved="finalize: each"),
    )
    result = made("docker", US, *others, HUB, trust={"us.example:5000": Trust(is_plain=True)})
    assert json.loads(result.texts["daemon.json"]) == {
        "registry-mirrors": ["http://us.example:5000"],
        "insecure-registries": ["us.example:5000"],
    }
    notes = "\n".join(result.notes)
    for place in (other.place for other in others):
        assert f"Left out: {place}: " in notes


@pytest.mark.parametrize("form", ["docker", "github", "kubernetes", "containerd"])
def test_what_a_format_cannot_do_is_one_line_with_what_to_do(form: str) -> None:
    upstream = one("up.example/org/*" if form != "docker" else "up.example/org", is_upstream=True)
    with pytest.raises(Misfit) as caught:
        made(form, one("eu.example/other"), upstream, is_wildcard=form != "docker")
    assert "\n" not in str(caught.value)
    assert "--format" in str(caught.value) or "name one, as app/REPOSITORY" in str(caught.value)


def test_docker_has_no_use_for_registries_that_it_could_not_ask_for_the_same_name() -> None:
    with pytest.raises(Misfit, match=r"docker cannot rename: it asks eu\.example for org/app; --format"):
        made("docker", one("eu.example/renamed"), HUB)


# -- workflows and pods ----------------------------------------------------------------------------


def test_a_pod_has_the_best_registry_and_names_a_secret_where_an_account_is_known() -> None:
    result = made("kubernetes", EU, HUB, trust={"eu.example": Trust(has_account=True)})
    (text,) = result.texts.values()
    pod = yaml.safe_load(text)
    assert pod["spec"]["containers"][0]["image"] == "eu.example/org/app:1.2"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "app-pull"}]
    assert "# A pod has no second registry" in text
    assert "# Else: docker.io/org/app" in text


# -- all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_file_says_what_it_is_and_why_a_registry_is_left_out(form: str) -> None:
    gone = one("gone.example/org/app", left_out="down as seen from there: refused")
    result = made(form, EU, HUB, gone)
    comments = result.notes or tuple(next(iter(result.texts.values())).splitlines())
    lines = [line.removeprefix("# ") for line in comments]
    assert tuple(lines[:3]) == HEADER
    assert "Left out: gone.example/org/app: down as seen from there: refused" in lines
    read = "".join(
        f"{line}\n" for text in result.texts.values() for line in text.splitlines() if line[:1] != "#"
    )
    assert "gone.example" not in read


@pytest.mark.parametrize("form", FORMATS)
def test_with_every_other_registry_down_the_file_still_holds_and_names_none_of_them(form: str) -> None:
    gone = one("eu.example/org/app", left_out="down")
    (text,) = made(form, gone, HUB).texts.values()
    read = [line for line in text.splitlines() if not line.startswith("#")]
    assert not any("eu.example" in line for line in read)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_choice_is_the_same_file(form: str) -> None:
    assert made(form, EU, US, HUB) == made(form, EU, US, HUB)


@pytest.mark.parametrize("form", FORMATS)
def test_no_text_of_a_registry_gets_out_of_its_comment(form: str) -> None:
    gone = one("gone.example/org/app", left_out='x\nserver = "http://evil"\r- run: evil\u2028evil')
    result = made(form, EU, HUB, gone)
    for text in result.texts.values():
        assert not [line for line in text.splitlines() if "evil" in line and not line.startswith("#")]


# -- who may be asked ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["github", "kubernetes"])
def test_a_tag_is_not_pulled_from_a_registry_that_must_not_say_what_it_is(form: str) -> None:
    doubted = one("eu.example/org/app", unresolved="tags moved apart, and nobody has decided: 1.2")

    (text,) = made(form, doubted, US, HUB).texts.values()

    assert "Left out: eu.example/org/app: not for tags: tags moved apart" in text
    assert "eu.example/org/app" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "us.example:5000/org/app" in text


@pytest.mark.parametrize("form", ["github", "kubernetes"])
def test_where_no_side_may_say_what_a_tag_is_the_best_is_taken_with_that_said(form: str) -> None:
    sides = [one(f"{name}.example/app", is_upstream=True, unresolved="undecided: 1.2") for name in ("a", "b")]

    (text,) = made(form, *sides).texts.values()

    assert "a.example/app" in "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "not for tags: undecided: 1.2" in text


@pytest.mark.parametrize("form", ["containerd", "containers", "docker"])
def test_a_folder_is_no_name_that_anybody_pulls_by(form: str) -> None:
    with pytest.raises(Misfit, match=r"source of app is a folder, .*--format github or kubernetes"):
        made(form, EU, US)


@pytest.mark.parametrize("form", ["github", "kubernetes"])
def test_where_nothing_is_left_to_pull_from_that_is_said(form: str) -> None:
    with pytest.raises(Misfit, match=r"no registry of app can be pulled from: eu.example/org/app: is down"):
        made(form, one("eu.example/org/app", left_out="is down"))
