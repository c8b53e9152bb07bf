from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.environment import check_environment, looked_up, redis_url_of
from config.fleet import (
    Fleet,
    Mirror,
    TagRules,
    TargetConfig,
    fleet_schema,
    load_fleet,
    parse_fleet,
)
from config.lines import MAX_NODES
from config.problems import FleetError
from config.registries import RegistryConfig

DESIGN = """\
redis_url: redis://redis.example:6379/0
registries:
  ghcr.io: {username: env:GHCR_USER, password: env:GHCR_TOKEN}
  registry.eu.example: {ca_file: eu.pem, max_concurrency: 4}
mirrors:
  - name: explorer
    source: docker.io/kuzudb/explorer
    targets:
      - {region: us, repository: ghcr.io/kuzudb/explorer}
      - registry.eu.example/kuzudb/explorer
    tags: {include: ["semver:>=0.7", latest, 1.10], exclude: ["*-dev"], newest: 50}
    platforms: [linux/amd64, linux/arm64]
    schedule: "*/15 * * * *"
  - name: base
    source: docker.io/library/alpine
    targets: [ghcr.io/kuzudb/alpine]
    tags: [3.20, latest]
    lane: backfill
"""
MIRROR = "mirrors:\n  - name: app\n    source: a.example/app\n    targets: [b.example/app]\n"


def problems(text: str) -> list[str]:
    with pytest.raises(FleetError) as caught:
        parse_fleet(text)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


def test_a_whole_file_becomes_values() -> None:
    fleet = parse_fleet(DESIGN)

    explorer, base = fleet.mirrors
    assert fleet.redis_url is not None
    assert fleet.registries["ghcr.io"] == RegistryConfig(username="env:GHCR_USER", password="env:GHCR_TOKEN")
    assert fleet.registries["registry.eu.example"].max_concurrency == 4
    assert explorer.targets == (
        TargetConfig(repository="ghcr.io/kuzudb/explorer", region="us"),
        TargetConfig(repository="registry.eu.example/kuzudb/explorer", region="local"),
    )
    assert explorer.tags == TagRules(
        include=("semver:>=0.7", "latest", "1.10"), exclude=("*-dev",), newest=50
    )
    assert (explorer.referrers, explorer.finalize, explorer.lane) == (True, "all", "release")
    assert base.tags == TagRules(include=("3.20", "latest"))
    assert base.lane == "backfill"


def test_tags_that_look_like_numbers_or_switches_stay_texts() -> None:
    fleet = parse_fleet(f"{MIRROR}    tags: [1.10, 1, 1e3, on, no, 2024-01-01, 0x1F, 1_000, '5']\n")

    assert fleet.mirrors[0].tags.include == (
        "1.10",
        "1",
        "1e3",
        "on",
        "no",
        "2024-01-01",
        "0x1F",
        "1_000",
        "5",
    )


def test_without_tags_all_are_wanted() -> None:
    assert parse_fleet(MIRROR).mirrors[0].tags == TagRules(include=("*",))


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}", "mirrors: []"])
def test_an_empty_file_is_an_empty_fleet(text: str) -> None:
    assert parse_fleet(text).model_dump() == Fleet().model_dump()


def test_values_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_fleet(MIRROR).mirrors[0].name = "x"  # type: ignore[misc] # that it cannot be set is the test


def test_every_place_knows_its_line() -> None:
    fleet = parse_fleet(DESIGN, Path("etc/fleet.yaml"))

    assert fleet.line_of("mirrors", 0, "source") == "etc/fleet.yaml:7"
    assert fleet.line_of("mirrors", 0, "targets", 1) == "etc/fleet.yaml:10"
    assert fleet.line_of("mirrors", 1, "tags", 0) == "etc/fleet.yaml:17"
    assert fleet.line_of("registries", "ghcr.io", "password") == "etc/fleet.yaml:3"


def test_what_the_file_leaves_out_has_the_line_of_what_is_around_it() -> None:
    fleet = parse_fleet(DESIGN)

    assert fleet.line_of("mirrors", 1, "platforms", 3) == "sealift.yaml:14"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    finalise: all", "finalise: unknown key; did you mean 'finalize'?"),
        ("    zzz: 1", "zzz: unknown key; the keys here are: conflicts, delete,"),
        ("    finalize: some", "finalize: must be 'all' or 'each'"),
        ("    lane: fast", "lane: must be 'release' or 'backfill'"),
        ("    referrers: maybe", "referrers: must be true or false"),
        ("    referrers:", "referrers: is empty; give it a value, or leave the key out"),
        ("    tags:", "tags: is empty; give it a value, or leave the key out"),
        ("    tags: latest", "tags: must be a list or a mapping; write [latest]"),
        ("    tags: {newest: many}", "tags.newest: must be a whole number"),
        ("    tags: {newest: 0}", "tags.newest: must be more than 0"),
        ("    tags: {newest_by: name}", "tags.newest_by: must be 'semver' or 'created'"),
        ("    tags: {includes: [a]}", "tags.includes: unknown key; did you mean 'include'?"),
        ("    tags: {include: [a, [b]]}", "tags.include[1]: must be a text"),
        ("    tags: [a, {b: c}]", "tags[1]: must be a text"),
        ("    platforms: linux/amd64", "platforms: must be a list; write [one, two]"),
        ("    platforms: [linux/amd64, Linux]", "platforms[1]: 'Linux' is not allowed; use os/architecture"),
        ("    trust_ledger_for: 3600", "trust_ledger_for: '3600' is not allowed; use a number and its unit"),
        ("    trust_ledger_for: 0h", "trust_ledger_for: '0h' is not allowed; use a number and its unit"),
        ("    delete: always", "delete: must be 'never' or 'mirror'"),
        ("    delete_share: 101", "delete_share: must be at most 100"),
        ("    delete_after: 7", "delete_after: '7' is not allowed; use a number and its unit"),
        ('    schedule: "* * * *"', "schedule: '* * * *' has 4 fields; write five"),
    ],
)
def test_each_mistake_names_file_line_key_and_remedy(line: str, said: str) -> None:
    (problem,) = problems(f"{MIRROR}{line}\n")

    assert problem.startswith(f"sealift.yaml:5: mirrors[0].{said}")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "{region: EU, repository: x/y}",
            "[0].region: 'EU' is not allowed; use small letters, digits and '-'",
        ),
        ("{region: -eu, repository: x/y}", "[0].region: '-eu' is not allowed"),
        (f"{{region: {'e' * 64}, repository: x/y}}", "[0].region: "),
        ("{region: control, repository: x/y}", "[0].region: 'control' is a name of Sealift's own queues"),
        ("{region: unacked, repository: x/y}", "[0].region: 'unacked' is a name of Sealift's own queues"),
        ("{regoin: eu, repository: x/y}", "[0].regoin: unknown key; did you mean 'region'?"),
        ("{region: eu}", "[0].repository: is missing; add it"),
        ("[x/y]", "[0]: must be a mapping"),
        ("", ": is empty; name at least one"),
    ],
)
def test_a_mistake_in_a_target_names_its_place(target: str, said: str) -> None:
    text = f"mirrors:\n  - name: app\n    source: a/b\n    targets: [{target}]\n"

    (problem,) = problems(text)

    assert problem.startswith(f"sealift.yaml:4: mirrors[0].targets{said}")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = "registries:\n  a.example: {max_concurrency: 0}\n"
    text += "mirrors:\n  - source: 1\n    targets: 2\nmirrots: []\n"

    assert problems(text) == [
        "sealift.yaml:2: registries.a.example.max_concurrency: must be more than 0",
        "sealift.yaml:4: mirrors[0].name: is missing; add it",
        "sealift.yaml:5: mirrors[0].targets: must be a list; write [one, two] or one '- ' line for each",
        "sealift.yaml:6: mirrots: unknown key; did you mean 'mirrors'?",
    ]


TWO_WAY = "mirrors:\n  - name: app\n    mode: two_way\n    targets: [a.example/x, b.example/x]\n"


def test_a_two_way_mirror_has_targets_and_no_source() -> None:
    (mirror,) = parse_fleet(TWO_WAY).mirrors

    assert (mirror.mode, mirror.source, mirror.conflicts, len(mirror.targets)) == ("two_way", None, "hold", 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("source: a/b", "source: a two-way mirror has none: name every repository under targets"),
        ("trust_ledger_for: 1h", "trust_ledger_for: a two-way mirror must look at every side"),
        ("read_from: source", "read_from: a two-way mirror reads from whichever side has it"),
        ("conflicts: oldest", "conflicts: must be 'hold' or 'newest'"),
    ],
)
def test_what_does_not_go_with_two_way_is_named(line: str, said: str) -> None:
    (problem,) = problems(f"{TWO_WAY}    {line}\n")

    assert problem.startswith(f"sealift.yaml:5: mirrors[0].{said}")


def test_one_rule_decides_conflicts() -> None:
    (problem,) = problems(f"{TWO_WAY}    conflicts: newest\n    prefer: a.example\n")

    assert problem.startswith("sealift.yaml:6: mirrors[0].prefer: beside conflicts: newest; one rule decides")


def test_a_two_way_mirror_of_one_repository_is_refused() -> None:
    (problem,) = problems(TWO_WAY.replace(", b.example/x", ""))

    assert problem.startswith(
        "sealift.yaml:4: mirrors[0].targets: a two-way mirror has at least two repositories"
    )


@pytest.mark.parametrize("line", ["conflicts: newest", "prefer: x.example", "immutable: ['v*']"])
def test_what_belongs_to_two_way_is_refused_elsewhere(line: str) -> None:
    (problem,) = problems(f"{MIRROR}    {line}\n")

    key = line.partition(":")[0]
    assert (
        problem == f"sealift.yaml:5: mirrors[0].{key}: belongs to a mirror with mode: two_way; leave it out"
    )


def test_any_other_mirror_has_a_source() -> None:
    (problem,) = problems("mirrors:\n  - name: app\n    targets: [a.example/x]\n")

    assert problem == "sealift.yaml:2: mirrors[0].source: is missing; add it"


def test_two_mirrors_of_one_name_are_refused() -> None:
    text = MIRROR + MIRROR.removeprefix("mirrors:\n")

    (problem,) = problems(text)

    assert problem.startswith("sealift.yaml:5: mirrors[1].name: 'app' is the name of another mirror too")
    assert problem.endswith(" (sealift.yaml:2); give each its own")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mirrors: []\nregistries: {}\nmirrors: []\n", ":3: mirrors: the key is here twice, first on line 1"),
        (
            "registries:\n  a.example: {proxy: a, proxy: b}\n",
            ":2: registries.a.example.proxy: the key is here twice",
        ),
        ("mirrors: [", ":1: not YAML: expected the node content"),
        ("a: b\n\tc: d\n", ":2: not YAML: "),
        ("{}\n---\n{}\n", ":2: not YAML: but found another document"),
        ("a: 1\nb: \x07\n", ":2: not YAML: the character U+0007; remove it"),
        ("mirrors: &all [*all]\n", ":1: mirrors[0]: contains itself by an alias"),
        ("mirrors:\n  - {<<: {name: a}}\n", ":2: mirrors[0]: merge keys (<<) are not allowed"),
        ("mirrors:\n  - {[a]: b}\n", ":2: mirrors[0]: a key must be a plain text"),
        ("mirrors: !!python/name:os.system\n", ":1: mirrors: YAML tags (!…) are not allowed"),
        ("mirrors: !!set {a, b}\n", ":1: mirrors: YAML tags (!…) are not allowed"),
        ("- a\n", ":1: must be a mapping"),
        ("[" * 5000, ":1: lists or mappings nested too deep"),
    ],
)
def test_malformed_yaml_names_its_line(text: str, said: str) -> None:
    (problem,) = problems(text)

    assert problem.startswith(f"sealift.yaml{said}")


def test_aliases_save_writing_and_cannot_blow_up() -> None:
    shared = "    targets: &both [b.example/app, c.example/app]\n"
    second = "  - {name: two, source: a.example/two, targets: *both}\n"
    fleet = parse_fleet(MIRROR.replace("    targets: [b.example/app]\n", shared) + second)
    assert fleet.mirrors[0].targets == fleet.mirrors[1].targets

    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    (problem,) = problems(bomb)
    assert f"more than {MAX_NODES} values; use fewer aliases" in problem


@pytest.mark.parametrize(
    "line",
    [
        "registries: {a.example: {username: u, password: hunter2}}",
        "registries: {a.example: {username: u, password: [hunter2]}}",
        "registries: {a.example: {username: u, password: {hunter2: x, y: z}}}",
        "registries: {a.example: {username: u, password: !hunter2}}",
        "registries: {a.example: {username: u, password: *hunter2}}",
        "registries: {a.example: {username: u, pasword: hunter2}}",
        "registries: {a.example: {username: u, password: 'env:hunter2!'}}",
        "registries: {a.example: {proxy: 'http://u:hunter2@proxy.example'}}",
        "registries: {a.example: {proxy: 'u:hunter2@proxy.example'}}",
        "redis_url: 'http://:hunter2@redis.example'",
        "redis_url: ['redis://:hunter2@redis.example']",
    ],
)
def test_no_secret_is_repeated_in_an_error(line: str) -> None:
    (problem,) = problems(line)

    assert problem.startswith("sealift.yaml:1: ")
    assert "hunter2" not in problem


def test_a_password_must_not_stand_in_the_file() -> None:
    (problem,) = problems("registries:\n  a.example:\n    username: u\n    password: p\n")

    assert problem.startswith(
        "sealift.yaml:4: registries.a.example.password: a secret must not stand in this"
    )
    assert problem.endswith(" file; write env:NAME or file:PATH")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("username: u", "username without password; give both or neither"),
        ("password: env:P", "password without username; give both or neither"),
        ("client_cert: c.pem", "client_cert without client_key"),
        ("proxy: socks5://p:1", "proxy: not a proxy; write http://HOST:PORT"),
        ("proxy: http://p:x", "proxy: not a proxy"),
        ("proxy: http://p:0", "proxy: not a proxy"),
        ("requests_per_minute: 0", "requests_per_minute: must be more than 0"),
        ("max_concurrency: 1001", "max_concurrency: must be at most 1000"),
        ("plain_http: perhaps", "plain_http: must be true or false"),
        ("token_hosts: a", "token_hosts: must be a list"),
        ("ca_file: [a]", "ca_file: must be a text"),
    ],
)
def test_a_mistake_in_a_registry_names_its_key(entry: str, said: str) -> None:
    (problem,) = problems(f"registries:\n  a.example: {{{entry}}}\n")

    assert problem.startswith("sealift.yaml:2: registries.a.example")
    assert said in problem


def test_a_redis_password_is_in_no_text() -> None:
    fleet = parse_fleet("redis_url: redis://:hunter2@redis.example/0")

    assert "hunter2" not in f"{fleet!r} {fleet} {fleet.model_dump()}"
    url = redis_url_of(fleet)
    assert url is not None
    assert url.get_secret_value() == "redis://:hunter2@redis.example/0"


def test_an_error_survives_pickling() -> None:
    with pytest.raises(FleetError) as caught:
        parse_fleet("x: 1")

    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "sealift.yaml"
    path.write_text(DESIGN)

    fleet = load_fleet(path)

    assert len(fleet.mirrors) == 2
    assert fleet.path == path
    assert fleet.resolve("eu.pem") == str(tmp_path / "eu.pem")
    assert fleet.resolve("/etc/eu.pem") == "/etc/eu.pem"


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(
        FleetError, match=r"none\.yaml: there is no such file; write one, or name it with SEALIFT"
    ):
        load_fleet(tmp_path / "none.yaml")
    with pytest.raises(FleetError, match="cannot be read: Is a directory"):
        load_fleet(tmp_path)
    with pytest.raises(FleetError, match="cannot be read: not UTF-8 text"):
        load_fleet(binary)


def test_a_mirror_is_found_by_name() -> None:
    fleet = parse_fleet(DESIGN)

    assert fleet.mirror("base") is fleet.mirrors[1]
    with pytest.raises(FleetError, match=r"mirrors: there is no mirror 'bass'; there is: explorer, base"):
        fleet.mirror("bass")


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ("{accounts: [{username: a}]}", "password"),
        ("{accounts: [{username: a, password: hunter2}]}", "a secret must not stand in this file"),
        (
            "{accounts: [{username: a, password: 'env:A'}], username: b, password: 'env:B'}",
            "accounts beside username",
        ),
        (
            "{accounts: [{username: a, password: 'env:A'}, {username: a, password: 'env:B'}]}",
            "accounts with the same username",
        ),
        ("{reserve_percent: 91}", "reserve_percent"),
    ],
)
def test_accounts_that_cannot_be_used_are_refused(registry: str, said: str) -> None:
    (line,) = problems(f"registries:\n  r.example: {registry}\n{MIRROR}")

    assert said in line
    assert "hunter2" not in line


def test_a_missing_secret_of_one_of_several_accounts_is_named() -> None:
    text = "registries:\n  r.example:\n    accounts:\n      - {username: a, password: 'env:A_TOKEN'}\n"

    (missing,) = check_environment(parse_fleet(text, Path("f.yaml")), {})
    assert str(missing).startswith("f.yaml:4: registries.r.example.accounts[0].password: ")


def test_missing_variables_and_files_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    text = (
        "redis_url: env:REDIS\nregistries:\n"
        "  a.example: {username: env:A_USER, password: file:token}\n"
        "  b.example:\n    username: bob\n    password: file:none\n    proxy: env:PROXY\n"
    )
    fleet = parse_fleet(text, tmp_path / "f.yaml")

    user, password, proxy = check_environment(fleet, {"REDIS": "redis://x", "PROXY": ""})

    at = "registries.b.example"
    assert str(user).endswith(
        "/f.yaml:3: registries.a.example.username: the environment variable A_USER is not set; export it"
    )
    assert f"/f.yaml:6: {at}.password: the file {tmp_path}/none cannot be read; create it" in str(password)
    assert f"/f.yaml:7: {at}.proxy: the environment variable PROXY is empty; export it" in str(proxy)


def test_what_is_no_secret_of_a_webhook_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("told-by/nobody-else\n")
    text = (
        "webhooks:\n"
        "  - {name: gone, kind: quay, secret: env:GONE}\n"
        "  - {name: good, kind: quay, secret: env:GOOD}\n"
        "  - {name: hub, kind: dockerhub, secret: file:hub}\n"
    )
    environ = {"GOOD": "told-by-nobody-else"}

    gone, hub = check_environment(parse_fleet(text, tmp_path / "f.yaml"), environ)

    assert str(gone).endswith(
        "/f.yaml:2: webhooks[0].secret: the environment variable GONE is not set; export it"
    )
    assert "/f.yaml:4: webhooks[2].secret: the secret there cannot end an address as it is; take " in str(hub)
    assert "nobody-else" not in str(hub)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_a_file_that_holds_no_text_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "token")
    fleet = parse_fleet("redis_url: file:token", tmp_path / "f.yaml")

    with pytest.raises(FleetError, match=r"f\.yaml:1: redis_url: the file .*/token cannot be read: "):
        redis_url_of(fleet, {})


def test_values_are_looked_up_where_they_are_kept(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    fleet = parse_fleet("redis_url: env:REDIS", tmp_path / "f.yaml")

    assert looked_up(fleet, (), "file:token") == "hunter2"
    assert looked_up(fleet, (), "plain") == "plain"
    url = redis_url_of(fleet, {"REDIS": "redis://x"})
    assert url is not None
    assert url.get_secret_value() == "redis://x"
    with pytest.raises(FleetError, match=r"f\.yaml:1: redis_url: the environment variable REDIS is not set"):
        redis_url_of(fleet, {})
    assert redis_url_of(Fleet(), {}) is None


def test_the_schema_describes_every_key_and_both_spellings() -> None:
    schema = fleet_schema()

    definitions = schema["$defs"]
    for model in (RegistryConfig, Mirror):
        properties = definitions[model.__name__]["properties"]
        assert properties.keys() == model.model_fields.keys()
        assert all(entry.get("description") for entry in properties.values())
    assert schema["properties"].keys() == Fleet.model_fields.keys()
    assert definitions["TargetConfig"]["anyOf"][0] == {"type": "string"}
    assert definitions["TagRules"]["anyOf"][0]["type"] == "array"
    assert schema["additionalProperties"] is False


def test_probes_that_would_cost_too_much_are_refused_with_what_to_write() -> None:
    with pytest.raises(FleetError, match=r"f\.yaml:1: probe\.every: .*write 10s or more"):
        parse_fleet("probe: {every: 5s}", Path("f.yaml"))
    with pytest.raises(FleetError, match=r"f\.yaml:1: probe\.bytes: .*write 256MiB or less"):
        parse_fleet("probe: {every: 5m, bytes: 1GiB}", Path("f.yaml"))
    assert parse_fleet("probe: {every: 5m}").probe.bytes == "4MiB"
