"""Deletions on one of two real registries, carried over to the other by real workers; skopeo judges."""

from __future__ import annotations

import json
from contextlib import ExitStack
from textwrap import dedent

import pytest

from registry.images import build_image
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.pushing import push
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scratch import scratch_folder

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

TAGS = ("1.0", "2.0", "3.0", "same")


def test_what_is_deleted_on_one_side_goes_from_the_other_and_nothing_else_does() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        us, eu = (
            stack.enter_context(DockerRegistry(made(folder / name), RegistryOptions(delete=True)))
            for name in ("us", "eu")
        )
        (made(folder / "fleet") / "sealift.yaml").write_text(
            dedent(f"""\
                mirrors:
                  - name: org
                    mode: two_way
                    targets: [{{region: us, repository: "{us.host}/org/*"}},
                              {{region: eu, repository: "{eu.host}/team/*"}}]
                    deletes: propagate
                    delete_share: 50
                    delete_after: 1s
            """)
        )
        fleet = stack.enter_context(Fleet(folder / "fleet", ["us", "eu"]))
        for tag in TAGS:
            image = build_image({"version": (b"2.0" if tag == "same" else tag.encode())})
            push(f"{us.host}/org/app", image, tag)
        ours, theirs = f"{us.host}/org/app", f"{eu.host}/team/app"
        assert sync(fleet) == set()

        kept = skopeo.digest(f"{theirs}:same")
        unlink(us, "org/app", "2.0")
        assert sync(fleet) == {("2.0", theirs, "waiting")}
        (plan,) = json.loads(fleet.sealift("plan", "org", "--json").stdout)["mirrors"]
        assert [(one["tag"], one["target"]) for one in plan["deletions"]] == [("2.0", theirs)]
        assert sync(fleet) == {("2.0", theirs, "deleted")}

        for side in (ours, theirs):
            assert sorted(skopeo.tags(side)) == ["1.0", "3.0", "same"]
            assert skopeo.digest(f"{side}:same") == kept, "it was at the same image"
        assert sync(fleet) == set()
        assert fleet.sealift("conflicts").stdout == "No conflict is open.\n"


def sync(fleet: Fleet) -> set[tuple[str, str, str]]:
    """What a run says of deletions: tag, side, state."""
    done = fleet.sealift("sync", "org", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    return {(one["tag"], one["target"], one["state"]) for one in run["deletion_reports"]}


def unlink(registry: DockerRegistry, repository: str, tag: str) -> None:
    """One tag of several at the same image goes, as by a registry's own page."""
    registry.stop()
    link = registry.storage / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag
    link.rename(registry.folder / "unlinked")
    registry.restart()
