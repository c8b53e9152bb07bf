"""One mirror of many repositories on a real fleet: between real registries, killed, and from a list."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from textwrap import dedent

import pytest

from registry.images import Image, build_image
from registry.memory import MemoryRegistry
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.pushing import ask, push, push_blob
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scratch import scratch_folder

REPOSITORIES, TAGS = 20, ("1.0", "1.1")
SETTINGS = {"SEALIFT_WINDOW_BATCHES": "2", "SEALIFT_BATCH_TAGS": "8"}


def image(name: str) -> Image:
    return build_image({"app.txt": name.encode()})


def names() -> list[str]:
    return [f"team/app{number:02}" for number in range(REPOSITORIES - 1)] + ["team/sub/app"]


def catalog(registry: DockerRegistry) -> list[str]:
    return list(json.loads(ask(registry.host, "GET", "/v2/_catalog?n=1000").body)["repositories"])


@dataclass(frozen=True, slots=True)
class Registries:
    """A fleet for ``us`` and ``eu`` with a mirror of ``source``'s ``team/*``, and one that may not list."""

    fleet: Fleet
    source: DockerRegistry
    us: DockerRegistry
    eu: DockerRegistry


@pytest.fixture(scope="module")
def registries() -> Iterator[Registries]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, us, eu = (
            stack.enter_context(DockerRegistry(made(folder / name))) for name in ("source", "us", "eu")
        )
        locked = stack.enter_context(
            DockerRegistry(made(folder / "locked"), RegistryOptions(users=(("ci", "right"),)))
        )
        for name in (*names(), "other/app"):
            for tag in TAGS:
                push(f"{source.host}/{name}", image(f"{name}:{tag}"), tag)
        made(folder / "fleet")
        (folder / "fleet" / "sealift.yaml").write_text(
            dedent(f"""\
                mirrors:
                  - name: team
                    source: {source.host}/team/*
                    targets:
                      - {{region: us, repository: "{us.host}/copy/*"}}
                      - {{region: eu, repository: "{eu.host}/*"}}
                  - name: locked
                    source: {locked.host}/*
                    targets: [{{region: eu, repository: "{us.host}/locked/*"}}]
            """)
        )
        fleet = stack.enter_context(Fleet(folder / "fleet", ["us", "eu"], SETTINGS))
        yield Registries(fleet, source, us, eu)


@pytest.mark.fleet
@skopeo.needs_skopeo
def test_one_mirror_brings_every_repository_below_its_prefix_everywhere(registries: Registries) -> None:
    done = registries.fleet.sealift("sync", "team", "--json")

    (run,) = json.loads(done.stdout)["runs"]
    assert done.returncode == 0, done.stderr
    assert (run["tags"], run["repositories"]) == (REPOSITORIES * len(TAGS), REPOSITORIES)
    assert catalog(registries.us) == sorted(f"copy/{name.removeprefix('team/')}" for name in names())
    assert catalog(registries.eu) == sorted(name.removeprefix("team/") for name in names())
    for name in names():
        for tag in TAGS:
            digest = skopeo.digest(f"{registries.source.host}/{name}:{tag}")
            rest = name.removeprefix("team/")
            assert skopeo.digest(f"{registries.us.host}/copy/{rest}:{tag}") == digest
            assert skopeo.digest(f"{registries.eu.host}/{rest}:{tag}") == digest

    again = registries.fleet.sealift("sync", "team")
    assert (
        f"{REPOSITORIES * len(TAGS)} tags in {REPOSITORIES} repositories current everywhere" in again.stdout
    )


@pytest.mark.fleet
def test_what_became_of_each_tag_is_said_with_its_repository(registries: Registries) -> None:
    run = registries.fleet.sealift("sync", "team", "--no-wait").stdout.strip()
    registries.fleet.wait(run)

    rows = list(csv.DictReader(io.StringIO(registries.fleet.sealift("report", run, "--csv").stdout)))
    shown = registries.fleet.sealift("status", run, "--all").stdout

    assert len(rows) == 2 * REPOSITORIES * len(TAGS)
    assert {row["repository"] for row in rows} == {f"{registries.source.host}/{name}" for name in names()}
    assert "sub/app:1.1" in shown


@pytest.mark.fleet
def test_a_repository_of_the_catalog_that_is_not_there_fails_by_name_until_it_is(
    registries: Registries,
) -> None:
    half = f"{registries.source.host}/team/half"
    push_blob(half, image("half").blobs[0])  # in the catalog, without a tag

    done = registries.fleet.sealift("sync", "team")

    assert done.returncode == 1
    assert f"half: {half}: " in done.stdout
    assert re.search(rf"{REPOSITORIES * len(TAGS)} (current|updated) and 1 failed of ", done.stdout)
    (run,) = re.findall(r"`sealift retry (\w+)`", done.stderr)
    push(half, image("half"), "1.0")
    again = registries.fleet.sealift("retry", run, "--json")
    (retried,) = json.loads(again.stdout)["runs"]
    assert (again.returncode, retried["states"]) == (0, {"updated": 1}), again.stderr
    assert "half" in catalog(registries.eu)


@pytest.mark.fleet
def test_a_catalog_that_is_shown_to_nobody_is_4_and_one_line(registries: Registries) -> None:
    done = registries.fleet.sealift("sync", "locked")

    (line,) = done.stdout.splitlines()
    assert done.returncode == 4
    assert "its repositories cannot be listed by its catalog: " in line
    assert "listing; or give a list of references" in line


@pytest.mark.fleet
def test_a_list_from_a_file_is_mirrored_line_by_line(registries: Registries) -> None:
    host, eu = registries.source.host, registries.eu.host
    digest = image("other/app:1.0").digest
    text = f"# two repositories\n{host}/team/app00:1.1\n{host}/other/app:old@{digest}\n{host}/team/app01\n"
    (registries.fleet.folder / "list.txt").write_text(text)

    done = registries.fleet.sealift("backfill", "--from", "list.txt", "--to", f"eu={eu}/list/*", "--json")

    (run,) = json.loads(done.stdout)["runs"]
    assert (done.returncode, run["states"]) == (0, {"updated": 4}), done.stderr
    assert [name for name in catalog(registries.eu) if name.startswith("list/")] == [
        "list/other/app",
        "list/team/app00",
        "list/team/app01",
    ]
    found = json.loads(ask(eu, "GET", "/v2/list/other/app/tags/list").body)
    assert found["tags"] == ["old"]


@pytest.mark.fleet
def test_a_dry_run_looks_at_the_same_repositories(registries: Registries) -> None:
    done = registries.fleet.sealift("backfill", "team", "--dry-run", "--json")

    (plan,) = json.loads(done.stdout)["mirrors"]
    assert plan["mirror"] == "team"
    assert {one["rest"] for one in plan["tags"]} >= {name.removeprefix("team/") for name in names()}


# -- killed in the middle of the list --------------------------------------------------------------


@pytest.mark.fleet
def test_a_fleet_that_is_killed_in_the_middle_of_the_list_goes_on_there() -> None:
    held_up = "/v2/team/app11/tags/list"
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, target = (stack.enter_context(MemoryRegistry(page_size=6)) for _ in range(2))
        for name in names():
            for tag in TAGS:
                source.hold(name, image(f"{name}:{tag}"), tag)
        made(folder / "fleet")
        (folder / "fleet" / "sealift.yaml").write_text(
            f"mirrors: [{{name: team, source: '{source.host}/team/*', "
            f"targets: [{{region: eu, repository: '{target.host}/*'}}], referrers: false}}]"
        )
        fleet = stack.enter_context(Fleet(folder / "fleet", ["eu"], SETTINGS))
        with source.pause(lambda _, path: path.startswith(held_up)) as pause:
            run = fleet.sealift("backfill", "team", "--no-wait").stdout.strip()
            assert pause.reached.wait(60), fleet.logs()
            fleet.kill("eu")
        before = fleet.ledger.run_report(run)
        assert (before.state, before.listed) == ("open", False)
        assert before.repositories == 11
        fleet.start("eu")
        report = fleet.wait(run)

        assert (report.state, report.tags, report.repositories) == (
            "done",
            REPOSITORIES * len(TAGS),
            REPOSITORIES,
        )
        listed = Counter(one.path.partition("?")[0] for one in source.requests if one.kind == "tags")
        assert {path: count for path, count in listed.items() if count > 1} == {held_up: 2}
        assert source.count("catalog") == 4, "pages that were read are not read again"
        for name in names():
            assert target.tags(name.removeprefix("team/")) == {
                tag: image(f"{name}:{tag}").digest for tag in TAGS
            }
