from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.fleet import Fleet, parse_fleet
from config.problems import FleetError
from config.settings import Settings
from mirror.budget import Allowance
from mirror.spec import MirrorSpec, Target, Verification
from registry.credentials import CredentialEntry
from registry.endpoint import Endpoint, ListingTerms, Timeouts
from tasks.terms import (
    account_entries,
    allowance_of,
    check_fleet,
    credential_entries,
    endpoint_of,
    listing_of,
    listing_tokens,
    spec_of,
    verification_of,
    verifying,
)

FILE = Path("/etc/sealift/sealift.yaml")


def mirror(
    targets: str = "[b.example/app]", tags: str = "[latest]", name: str = "app", source: str = "alpine"
) -> str:
    return f"  - name: {name}\n    source: {source}\n    targets: {targets}\n    tags: {tags}\n"


def fleet(*mirrors: str, registries: str = "{}") -> Fleet:
    return parse_fleet(f"registries: {registries}\nmirrors:\n{''.join(mirrors)}", FILE)


def problems(found: Fleet) -> list[str]:
    with pytest.raises(FleetError) as caught:
        check_fleet(found)
    return [str(problem).removeprefix(f"{FILE}:") for problem in caught.value.problems]


def test_a_mirror_becomes_a_spec_with_its_names_in_full() -> None:
    text = """\
mirrors:
  - name: explorer
    source: alpine
    targets: [{region: eu, repository: index.docker.io/me/alpine}, "oci:layouts/alpine"]
    tags: {include: ["3.*"], exclude: [edge], newest: 5, newest_by: created}
    platforms: [linux/amd64]
    referrers: false
    finalize: each
    trust_ledger_for: 90m
"""
    found = parse_fleet(text, FILE)

    check_fleet(found)

    assert spec_of(found.mirrors[0], found) == MirrorSpec(
        name="explorer",
        source="docker.io/library/alpine",
        targets=(Target("docker.io/me/alpine", "eu"), Target("oci:/etc/sealift/layouts/alpine", "local")),
        include=("3.*",),
        exclude=("edge",),
        newest=5,
        newest_by="created",
        platforms=("linux/amd64",),
        referrers=False,
        finalize="each",
        trust_s=5400,
        keep=0,
    )


def test_how_a_mirror_is_verified_is_the_files_to_say() -> None:
    verify = "    verify: {deep: true, bytes: 20GB, rate: 64MiB, sample: 5, repair: true}\n"

    how = verification_of(fleet(mirror() + verify).mirrors[0].verify)

    assert how == Verification(5, deep=True, most_bytes=20 * 10**9, bytes_per_s=64 * 2**20, repairs=True)
    spec = verifying(MirrorSpec("a", "b", ()), how)
    assert spec.verifies
    assert MirrorSpec.parse(json.loads(json.dumps(spec.document()))) == spec


def test_the_defaults_of_file_and_engine_are_the_same_but_that_a_file_says_what_is_kept() -> None:
    found = parse_fleet("mirrors:\n  - {name: a, source: s.example/a, targets: [t.example/a]}\n")

    assert spec_of(found.mirrors[0], found) == MirrorSpec(
        "a", "s.example/a", (Target("t.example/a"),), keep=0
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            mirror(source="https://a.example/app"),
            "4: mirrors[0].source: not a repository: 'https://a.example",
        ),
        (mirror(source="a.example/App"), "4: mirrors[0].source: not a repository: "),
        (
            mirror(source="a.example/app:1.0"),
            "4: mirrors[0].source: 'a.example/app:1.0' names one image, not",
        ),
        (mirror("[x.example/app:1]"), "5: mirrors[0].targets[0]: 'x.example/app:1' names one image"),
        (mirror("[{repository: x.example/-}]"), "5: mirrors[0].targets[0].repository: not a repository: "),
        (mirror('["oci:"]'), "5: mirrors[0].targets[0]: not a repository: 'oci:': name the folder"),
        (mirror("[b.example/a, docker.io/library/alpine]"), "5: mirrors[0].targets[1]: docker.io/library/al"),
        (mirror("[b.example/a, b.example/a]"), "5: mirrors[0].targets[1]: b.example/a is a target already ("),
        (mirror(tags="[a, 'regex:(']"), "6: mirrors[0].tags[1]: pattern 'regex:(': not a regular expression"),
        (mirror(tags="{exclude: ['semver:new']}"), "6: mirrors[0].tags.exclude[0]: pattern 'semver:new': 'n"),
        (mirror(tags="{include: [a, '>=1']}"), "6: mirrors[0].tags.include[1]: pattern '>=1': neither a tag"),
        (mirror(tags="[]"), "6: mirrors[0].tags: include is empty"),
    ],
)
def test_what_references_and_patterns_get_wrong_is_named_with_its_line(text: str, said: str) -> None:
    found = fleet(text)

    (problem,) = problems(found)

    assert problem.startswith(said)
    with pytest.raises(FleetError, match=r"sealift\.yaml:"):
        spec_of(found.mirrors[0], found)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    found = fleet(
        mirror(tags="['re:x', 'semver:']"), mirror(name="two", source="a:b"), registries="{'a b': {}}"
    )

    assert [problem.split(":")[0] for problem in problems(found)] == ["1", "6", "6", "8"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("[latest]", "['*']"),
        ("['1.*']", "['2.*']"),
        ("[a, b]", "[b, c]"),
        ("[a]", "{include: [b], newest: 1}"),
    ],
)
def test_two_mirrors_must_not_write_the_same_tags_to_one_target(one: str, two: str) -> None:
    found = fleet(
        mirror("[c.example/x, b.example/app]", one),
        mirror("[b.example/app]", two, name="two", source="busybox"),
    )

    (problem,) = problems(found)

    assert problem.startswith(
        f"9: mirrors[1].targets[0]: mirror 'app' ({FILE}:3) writes b.example/app too, and "
    )
    assert problem.endswith("; use another repository, or list different tags one by one in both")


def test_deletions_have_their_terms_and_need_a_list() -> None:
    entry = mirror(tags="['1.*']")
    found = fleet(f"{entry}\n    delete: mirror\n    delete_after: 2d\n    delete_share: 5")
    spec = spec_of(found.mirror("app"), found)
    assert (spec.delete, spec.delete_after_s, spec.delete_share) == ("mirror", 2 * 86400, 5)

    (problem,) = problems(fleet(f"{mirror(tags='[latest]')}\n    delete: mirror"))
    assert "mirrors[0].delete: is of no use where tags are named one by one" in problem


def test_two_spellings_of_one_target_are_the_same_target() -> None:
    found = fleet(mirror("[docker.io/me/x]"), mirror("[INDEX.docker.io/me/x]", name="two", source="busybox"))

    assert "both write the tag latest" in problems(found)[0]


def test_mirrors_with_different_exact_tags_may_share_a_target() -> None:
    check_fleet(fleet(mirror(tags="[1.0, edge]"), mirror(tags="[2.0]", name="two", source="busybox")))


def test_a_registry_that_is_no_host_is_refused() -> None:
    assert problems(fleet(mirror(), registries="{ghcr: {}, 'https://x.example': {}, x.example/y: {}}")) == [
        f"1: registries.{host}: '{host}' is not a registry host; write it as in references (name[:port])"
        for host in ("ghcr", "https://x.example", "x.example/y")
    ]


def test_one_registry_under_two_names_is_refused() -> None:
    (problem,) = problems(fleet(mirror(), registries="{docker.io: {}, registry-1.docker.io: {}}"))

    assert problem.startswith("1: registries.registry-1.docker.io: registry-1.docker.io is docker.io (")
    assert problem.endswith(f"({FILE}:1) by another name; keep one of them")


def test_a_registry_becomes_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY", "http://u:hunter2@proxy.example:3128")
    entry = (
        "{index.docker.io: {plain_http: false, ca_file: ca.pem, client_cert: /c.pem, client_key: k.pem, "
        "proxy: env:PROXY, token_hosts: [auth.example], upload_hosts: [up.example], max_concurrency: 3}}"
    )
    settings = Settings(connect_timeout_s=1, read_timeout_s=2, commit_timeout_s=3)

    assert endpoint_of(fleet(mirror(), registries=entry), settings, "docker.io") == Endpoint(
        host="docker.io",
        plain_http=False,
        ca_file="/etc/sealift/ca.pem",
        client_cert=("/c.pem", "/etc/sealift/k.pem"),
        proxy="http://u:hunter2@proxy.example:3128",
        token_hosts=("auth.example",),
        upload_hosts=("up.example",),
        max_connections=3,
        transport="httpx",
        timeouts=Timeouts(1, 2, 3),
    )


def test_a_registry_that_the_file_does_not_name_has_the_usual_terms() -> None:
    assert endpoint_of(Fleet(), Settings(), "x.example") == Endpoint("x.example")


def test_a_proxy_whose_variable_is_missing_names_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXY", raising=False)
    found = fleet(mirror(), registries="{x.example: {proxy: env:PROXY}}")

    fault = endpoint_of(found, Settings(), "x.example").fault

    assert "yaml:1: registries.x.example.proxy: the environment variable PROXY is not set" in fault


def test_accounts_are_handed_on_by_host_and_not_looked_up() -> None:
    entries = (
        "{index.docker.io: {username: me, password: file:hub}, "
        "b.example: {username: env:U, password: env:P}, c.example: {}}"
    )

    assert credential_entries(fleet(mirror(), registries=entries)) == {
        "docker.io": CredentialEntry("me", "file:/etc/sealift/hub"),
        "b.example": CredentialEntry("env:U", "env:P"),
    }


def test_several_accounts_are_known_by_what_the_file_calls_them() -> None:
    entries = (
        "{index.docker.io: {accounts: [{username: me, password: file:hub}, "
        "{username: 'env:HUB_2', password: 'env:P2'}, {username: me@example.org, password: 'env:P3'}]}}"
    )
    found = fleet(mirror(), registries=entries)

    accounts = account_entries(found)["docker.io"]
    me, other, mail = accounts
    assert (me, other) == ("me", "env:HUB_2")
    assert accounts["me"] == CredentialEntry("me", "file:/etc/sealift/hub")
    assert "example.org" not in mail, "the ledger's keys hold no address"
    assert credential_entries(found) == {}


def test_what_a_registry_may_be_asked_is_the_files_to_say() -> None:
    entries = "{b.example: {requests_per_minute: 90, reserve_percent: 25}}"
    found = fleet(mirror(), registries=entries)

    assert allowance_of(found, "b.example") == Allowance(90, 0.25)
    assert allowance_of(found, "c.example") == Allowance(None, 0.1)


# -- many repositories -----------------------------------------------------------------------------


def wild(
    source: str = "ghcr.io/org/*", target: str = "b.example/org/*", more: str = "", name: str = "org"
) -> str:
    return f"  - {{name: {name}, source: '{source}', targets: ['{target}']{more}}}\n"


def test_a_wildcard_becomes_a_spec_with_its_names_in_full() -> None:
    found = fleet(wild("library/*", "oci:layouts/*", ", repositories: {include: ['a*'], exclude: [ab]}"))

    check_fleet(found)

    spec = spec_of(found.mirrors[0], found)
    assert (spec.source, spec.targets) == (
        "docker.io/library/*",
        (Target("oci:/etc/sealift/layouts/*", "local"),),
    )
    assert [spec.takes(rest) for rest in ("alpine", "ab", "busybox")] == [True, False, False]
    assert spec.of("docker.io/library/alpine").source == "docker.io/library/alpine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (wild("ghcr.io/*/app"), "3: mirrors[0].source: not a repository: 'ghcr.io/*/app': '*' stands for"),
        (wild("oci:layouts/*"), "3: mirrors[0].source: folders are not searched for layouts"),
        (wild(target="b.example/org"), "3: mirrors[0].targets[0]: ghcr.io/org/* is many repositories"),
        (wild(target="b.example/*/org"), "3: mirrors[0].targets[0]: not a repository"),
        (wild("ghcr.io/org/app"), "3: mirrors[0].targets[0]: ghcr.io/org/app is one repository"),
        (wild(target="ghcr.io/org/*"), "3: mirrors[0].targets[0]: ghcr.io/org/* is the source itself"),
        (wild(target="ghcr.io/org/x/*"), "3: mirrors[0].targets[0]: ghcr.io/org/x/* and the source"),
        (wild(more=", repositories: []"), "3: mirrors[0].repositories: include is empty"),
        (wild(more=", repositories: [App]"), "3: mirrors[0].repositories[0]: 'App' is no glob"),
        (
            wild("ghcr.io/org/app", "b.example/app", ", repositories: [a]"),
            "3: mirrors[0].repositories: belongs to a source that ends with '/*'",
        ),
    ],
)
def test_a_wildcard_that_cannot_be_meant_is_one_problem_at_its_line(text: str, said: str) -> None:
    (found,) = problems(fleet(text))

    assert found.startswith(said)


def test_an_unknown_way_of_listing_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(FleetError) as caught:
        fleet(wild(), registries="{ghcr.io: {listing: github}}")

    assert "registries.ghcr.io.listing: must be 'catalog', 'dockerhub', 'quay', 'gitlab' or 'harbor'" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("registries", "said"),
    [
        (
            "{a.example: {listing: gitlab, listing_host: https://git.example}}",
            "listing_host: 'https://git.ex",
        ),
        ("{a.example: {listing_token: env:TOKEN}}", "listing_token: is of no use to a catalog"),
    ],
)
def test_how_repositories_are_listed_is_checked(registries: str, said: str) -> None:
    (found,) = problems(fleet(wild(), registries=registries))

    assert said in found


def test_how_repositories_are_listed_is_known_or_said() -> None:
    text = "{r.example: {listing: gitlab, listing_host: git.example, listing_token: file:token}}"
    found = fleet(wild(), registries=text)

    assert listing_of(found, "docker.io") == ListingTerms("dockerhub", "hub.docker.com")
    assert listing_of(found, "quay.io") == ListingTerms("quay", "quay.io")
    assert listing_of(found, "ghcr.io") == ListingTerms("catalog", "ghcr.io")
    assert listing_of(found, "r.example") == ListingTerms("gitlab", "git.example")
    assert listing_tokens(found) == {"r.example": CredentialEntry("", "file:/etc/sealift/token")}


BESIDE = (
    mirror("[b.example/org/x-cache]", name="app", source="ghcr.io/x/app"),
    mirror("[b.example/other/app]", name="app", source="ghcr.io/x/app"),
    wild("ghcr.io/two/*", "b.example/two/*", name="two"),
    wild("ghcr.io/two/*", more=", repositories: [x-cache]", name="two"),
)
ACROSS = (
    mirror("[b.example/org/app]", name="app", source="ghcr.io/x/app"),
    wild("ghcr.io/two/*", name="two"),
    wild("ghcr.io/two/*", "b.example/org/two/*", name="two"),
    wild("ghcr.io/two/*", more=", repositories: [x-cache, app]", name="two"),
)
ORG = wild(more=", repositories: {exclude: ['*-cache']}")


@pytest.mark.parametrize("mirrors", [pair for other in BESIDE for pair in ((ORG, other), (other, ORG))])
def test_a_wildcard_leaves_room_for_what_it_does_not_write(mirrors: tuple[str, str]) -> None:
    check_fleet(fleet(*mirrors))


@pytest.mark.parametrize("mirrors", [pair for other in ACROSS for pair in ((ORG, other), (other, ORG))])
def test_a_wildcard_and_another_mirror_may_not_write_the_same(mirrors: tuple[str, str]) -> None:
    (found,) = problems(fleet(*mirrors))

    assert "their tags may be the same" in found
