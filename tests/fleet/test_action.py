"""action.yml as a workflow's step: real registries, the embedded fleet, and one that runs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from registry.connections import Connections
from registry.credentials import ExplicitCredentials
from registry.images import build_image, push, random_layer
from tests.support import skopeo
from tests.support.fleet import Fleet
from tests.support.registries import DockerRegistry
from tests.support.runner import use

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]

HOSTILE = (
    "1.0\n::add-path::/evil\r::set-env name=A::b ##[set-output name=state]done | `x` "
    "<script>alert(1)</script>%0A"
)


@pytest.fixture
def registries(three_registries: tuple[DockerRegistry, ...]) -> tuple[DockerRegistry, ...]:
    """The first holds ``app:1.0`` and ``app:2.0``."""
    connections = Connections({}, ExplicitCredentials({}))
    repository = connections.open(f"{three_registries[0].host}/app")
    for number in (1, 2):
        image = build_image({"version": str(number).encode()}, layers=[random_layer(50_000, number)])
        push(repository, image, f"{number}.0")
    connections.close()
    return three_registries


@contextmanager
def registry_of_a_stranger() -> Iterator[str]:
    """Its list of tags is hostile, and so are its refusals: distribution allows no such names."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            is_list = "/tags/list" in self.path
            body = {"name": "app", "tags": [HOSTILE, "1.0"]} if is_list else _refusal()
            self._answer(200 if is_list or self.path == "/v2/" else 403, json.dumps(body).encode())

        def do_HEAD(self) -> None:
            self._answer(403, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _refusal() -> dict[str, object]:
    return {"errors": [{"code": "DENIED", "message": HOSTILE}]}


def test_what_was_just_pushed_is_in_every_target(
    registries: tuple[DockerRegistry, ...], tmp_path: Path
) -> None:
    source, one, other = registries

    step = use(
        tmp_path / "step",
        {"image": f"{source.host}/app:1.0", "targets": f"{one.host}/app\n\n eu={other.host}/copy\n"},
        {"SEALIFT_REDIS_URL": "redis://127.0.0.1:1/0"},  # of the job; mode local does without
    )

    assert step.code == 0, step.log
    digest = skopeo.digest(f"{source.host}/app:1.0")
    assert skopeo.digest(f"{one.host}/app:1.0") == skopeo.digest(f"{other.host}/copy:1.0") == digest
    assert step.outputs["digest"] == digest
    assert json.loads(step.outputs["digests"]) == {
        f"{one.host}/app:1.0": digest,
        f"{other.host}/copy:1.0": digest,
    }
    assert json.loads(step.outputs["counts"])["updated"] == 1
    assert (step.outputs["state"], step.outputs["updated"], step.outputs["failed"]) == ("done", "1", "0")
    report = json.loads(Path(step.outputs["report"]).read_text())
    assert report["runs"][0]["run"] == step.outputs["run"]
    assert not step.obeyed
    assert step.summary.count("| updated |") == 2


def test_a_target_that_fails_is_an_annotation_and_exit_code_1(
    registries: tuple[DockerRegistry, ...], tmp_path: Path
) -> None:
    source, one, _ = registries

    step = use(tmp_path / "step", {"image": f"{source.host}/app:9.9", "targets": f"{one.host}/app"})

    assert step.code == 1, step.log
    (error,) = step.annotations("error")
    assert f"{source.host}/app" in error
    assert "9.9" in error
    assert (step.outputs["state"], step.outputs["failed"], step.outputs["exit-code"]) == ("failed", "1", "1")
    assert step.outputs["digest"] == ""
    assert "| failed |" in step.summary


def test_hostile_names_and_answers_are_obeyed_by_nobody(
    registries: tuple[DockerRegistry, ...], tmp_path: Path
) -> None:
    with registry_of_a_stranger() as host:
        step = use(
            tmp_path / "step", {"image": f"{host}/app", "tags": "*", "targets": f"{registries[1].host}/app"}
        )

    assert step.code, step.log
    assert step.annotations("error")
    assert not step.others, step.log
    assert "script>" not in step.summary
    assert "`" not in step.summary
    assert step.outputs["state"] == "failed"


def test_a_run_is_submitted_and_waited_for(registries: tuple[DockerRegistry, ...], tmp_path: Path) -> None:
    source, one, _ = registries
    with Fleet(made(tmp_path / "fleet"), ["local"]) as fleet:
        step = use(
            tmp_path / "step",
            {
                "image": f"{source.host}/app",
                "tags": "1.*\n2.*",
                "targets": f"{one.host}/app",
                "mode": "submit",
            },
            surroundings_of(fleet),
        )
        report = fleet.ledger.run_report(step.outputs["run"])

    assert step.code == 0, step.log
    assert report.state == step.outputs["state"] == "done"
    digests = json.loads(step.outputs["digests"])
    names = [f"{one.host}/app:{tag}" for tag in ("1.0", "2.0")]
    assert digests == {name: skopeo.digest(name) for name in names}
    assert step.outputs["digest"] == "", "two tags have no digest in common"


def test_a_run_may_be_left_to_the_fleet(registries: tuple[DockerRegistry, ...], tmp_path: Path) -> None:
    source, one, _ = registries
    asked = {"image": f"{source.host}/app:1.0", "targets": f"{one.host}/app", "mode": "submit"}
    with Fleet(made(tmp_path / "fleet"), ["local"]) as fleet:
        step = use(tmp_path / "step", {**asked, "wait": "false"}, surroundings_of(fleet))
        assert step.code == 0, step.log
        assert step.outputs["state"] == "submitted"
        assert fleet.wait(step.outputs["run"]).state == "done"


def test_one_that_takes_too_long_fails_and_is_named(
    registries: tuple[DockerRegistry, ...], tmp_path: Path
) -> None:
    """The fleet's worker stands still: the run cannot end."""
    source, one, _ = registries
    asked = {
        "image": f"{source.host}/app:1.0",
        "targets": f"{one.host}/app",
        "mode": "submit",
        "timeout": "3",
    }
    with Fleet(made(tmp_path / "fleet"), ["local"]) as fleet:
        source.process.freeze()
        try:
            step = use(tmp_path / "step", asked, surroundings_of(fleet))
        finally:
            source.process.thaw()

        assert step.code == 5, step.log
        assert step.outputs["state"] == "unfinished"
        assert fleet.ledger.run_report(step.outputs["run"]).run == step.outputs["run"]
        assert any("not finished after" in error for error in step.annotations("error"))


def test_mirrors_of_a_fleet_file_are_run(registries: tuple[DockerRegistry, ...], tmp_path: Path) -> None:
    source, one, other = registries
    file = tmp_path / "fleet.yaml"
    names = {"one": (one, "1.0"), "other": (other, "2.0")}
    lines = [
        f"  - {{name: {name}, source: {source.host}/app, targets: [{target.host}/app], "
        f"tags: {{include: ['{tag}']}}}}"
        for name, (target, tag) in names.items()
    ]
    file.write_text("\n".join(("mirrors:", *lines)))

    step = use(tmp_path / "step", {"mirrors": "one other", "config": str(file)})

    assert step.code == 0, step.log
    assert len(step.outputs["run"].split()) == 2
    assert set(json.loads(step.outputs["digests"])) == {f"{one.host}/app:1.0", f"{other.host}/app:2.0"}


def test_it_installs_itself_from_its_own_checkout(
    registries: tuple[DockerRegistry, ...], tmp_path: Path
) -> None:
    """A workspace of a project for another Python, with a setting for uv and its own code on PYTHONPATH."""
    source, one, _ = registries
    asked = {"image": f"{source.host}/app:1.0", "targets": f"{one.host}/app"}
    workspace = tmp_path / "step" / "workspace"
    for package in ("config", "tasks", "pip", "uv"):
        (workspace / package).mkdir(parents=True)
        (workspace / package / "__init__.py").write_text("raise SystemExit('theirs')\n")
    (workspace / ".python-version").write_text("2.7\n")
    (workspace / "uv.toml").write_text("no-index = true\n")
    (workspace / "sealift.yaml").write_text("redis_url: redis://evil.example/0\n")

    step = use(tmp_path / "step", asked, {"PYTHONPATH": str(workspace)}, installs=True)

    assert step.code == 0, step.log
    assert step.outputs["digest"] == skopeo.digest(f"{one.host}/app:1.0")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def surroundings_of(fleet: Fleet) -> dict[str, str]:
    return {"SEALIFT_REDIS_URL": fleet.valkey.url, "SEALIFT_REDIS_PREFIX": "sealift:"}
