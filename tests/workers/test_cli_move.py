"""``move`` on fleets of its own: everything comes, is looked at again, and what is ready can be rewritten."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from mirror.report import TagReport, TagState, TargetReport
from registry.images import build_image, build_index, build_signature, random_layer, signature_tag
from registry.memory import MemoryRegistry
from tests.conftest import RegistryFactory
from tests.support import skopeo
from workers.cli import main
from workers.cli.console import Console
from workers.cli.exits import Exit
from workers.cli.fleets import Engine
from workers.cli.moving import MOST_SHOWN, Move, _show
from workers.cli.session import Session
from workers.cli.specs import Terms, spec_from

COMMAND = [sys.executable, "-P", "-m", "workers.cli"]
APP = build_index([build_image({"app": b"1"}, layers=[random_layer(200_000)])])
DB = build_image({"db": b"1"})


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("SEALIFT_OUTAGE_S", "0")
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)


@pytest.fixture
def old() -> Iterator[MemoryRegistry]:
    """A place with two repositories, and one beside it."""
    with MemoryRegistry() as registry:
        registry.hold("org/app", APP, "1.0")
        registry.hold("org/app", APP, "latest")
        registry.hold("org/app", build_signature(APP), signature_tag(APP.digest))
        registry.hold("org/db", DB, "2.0")
        registry.hold("others/x", DB, "1")
        yield registry


def sealift(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.fleet
def test_a_house_moves_to_a_real_registry_and_files_follow_by_the_line_that_it_shows(
    old: MemoryRegistry, registry_factory: RegistryFactory, tmp_path: Path
) -> None:
    new = registry_factory()
    compose = tmp_path / "compose.yaml"
    compose.write_text(f"services:\n  app: {{image: {old.host}/org/app:1.0}}  # ours\n")

    new.forget_requests()
    done = sealift("move", "--from", f"{old.host}/org", "--to", f"{new.host}/moved/org")
    read = {one.path for one in new.requests() if one.method == "GET" and "/blobs/" in one.path}

    assert done.returncode == Exit.DONE, done.stdout + done.stderr
    assert re.search(rf"^{old.host}/org/app +{new.host}/moved/org/app +2 +0$", done.stdout, re.MULTILINE)
    assert "3 tags of 2 repositories ready" in done.stdout
    layer = APP.children[0].blobs[-1].descriptor.digest  # type: ignore[union-attr]  # an image
    assert f"/v2/moved/org/app/blobs/{layer}" in read  # every byte was read where it is now
    assert skopeo.digest(f"{new.host}/moved/org/app:latest") == APP.digest
    assert skopeo.exists(f"{new.host}/moved/org/app:{signature_tag(APP.digest)}")
    line = re.findall(r"`sealift (rewrite [^`]*)`", done.stderr)[0]
    written = sealift(*line.split(), "--write", "--pin")
    assert written.returncode == Exit.DONE, written.stderr
    image = f"{new.host}/moved/org/app:1.0@{APP.digest}"
    assert compose.read_text() == f"services:\n  app: {{image: {image}}}  # ours\n"


SPEC = spec_from("docker.io/org/*", ["ghcr.io/new/*"], Terms(("*",)))[0]


def taken(**reasons: str) -> Move:
    """What is shown of one repository: its tags with why they did not come, if so."""
    move = Move(cast("Engine", None), SPEC, None)
    for tag, reason in reasons.items():
        target = TargetReport("ghcr.io/new/app", "local", "failed", reason, reason.partition(" ")[0])
        state: TagState = "failed" if reason else "current"
        targets = (target,) if reason else ()
        move._take(TagReport(tag, APP.digest, state, reason, targets, "docker.io/org/app", tag, "app"))
    return move


def test_what_did_not_come_is_named_and_no_line_to_follow_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = _show(Session(Console()), taken(one="", two="DigestMismatch: its bytes hash to another digest"))

    out, err = capsys.readouterr()
    assert code == Exit.FAILED
    assert out.splitlines()[1].split() == ["docker.io/org/app", "ghcr.io/new/app", "1", "1"]
    assert "docker.io/org/app:two: DigestMismatch: its bytes" in out
    assert "1 tag of 1 repository ready" in out
    assert "`sealift rewrite" not in err
    assert "Type it again" in err


def test_of_very_many_that_did_not_come_the_first_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    _show(Session(Console()), taken(**{f"t{number}": "Refused x" for number in range(MOST_SHOWN + 2)}))

    assert "... and 2 further tags (--json has them all)" in capsys.readouterr().out


def test_only_accounts_that_are_missing_are_4_and_json_has_every_tag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = _show(Session(Console(json=True)), taken(one="Denied there"))

    document = json.loads(capsys.readouterr().out)
    assert (code, document["exit_code"], document["rewrite"]) == (Exit.AUTHENTICATION, 4, None)
    assert document["repositories"][0]["not_ready"] == [{"tag": "one", "reason": "Denied there"}]


def test_nothing_that_came_is_not_ready() -> None:
    assert not taken().is_ready
    assert taken(one="").is_ready


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--from", "docker.io/org"], "Missing option '--to'"),
        (["--from", "docker.io/Org", "--to", "ghcr.io/org"], "lower case"),
        (["app:1", "--from", "docker.io/org", "--to", "ghcr.io/org"], "a repository is meant"),
        (["--from", "docker.io/org:1", "--to", "ghcr.io/org"], "--from docker.io/org:1: a place is meant"),
        (["--from", "docker.io/org", "--to", "eu=ghcr.io/org:1"], "--to ghcr.io/org:1: a place is meant"),
        (["--from", "docker.io/org", "--to", "E U=ghcr.io/org"], "is not a region's name"),
        (["--from", "docker.io/org", "--to", "docker.io/org"], "docker.io/org"),
    ],
)
def test_what_cannot_be_meant_is_2_and_starts_nothing(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["move", *words]) == Exit.USAGE

    out, err = capsys.readouterr()
    assert (says in err, out) == (True, "")
    assert not (tmp_path / "state").exists()
