"""The parts that tests stand on: a broken judge would let everything pass."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.images import build_image
from tests.support import skopeo
from tests.support.ports import is_listening
from tests.support.process import Process
from tests.support.pushing import ask, push
from tests.support.registries import DockerRegistry, RegistryOptions, Request
from tests.support.scratch import scratch_folder
from tests.support.valkey import ValkeyServer
from tests.support.waiting import StillWaiting, until

ROOT = Path(__file__).parent.parent


IMAGE = build_image({"etc/motd": b"hello"})


def test_a_registry_tells_what_it_was_asked(registry_factory: Callable[..., DockerRegistry]) -> None:
    registry = registry_factory()
    ask(registry.host, "POST", "/v2/a/b/blobs/uploads/?mount=sha256:00&from=c/d")
    ask(registry.host, "HEAD", "/v2/a/b/manifests/latest")

    assert registry.requests() == [
        Request("POST", "/v2/a/b/blobs/uploads/?mount=sha256:00&from=c/d", 202),
        Request("HEAD", "/v2/a/b/manifests/latest", 404),
    ]
    assert registry.counts() == {"POST": 1, "HEAD": 1}


def test_a_registry_can_forget_what_it_was_asked(registry_factory: Callable[..., DockerRegistry]) -> None:
    registry = registry_factory()
    ask(registry.host, "GET", "/v2/a/b/tags/list")
    registry.forget_requests()
    ask(registry.host, "GET", "/v2/c/d/tags/list")

    assert [request.path for request in registry.requests()] == ["/v2/c/d/tags/list"]


def test_a_registry_keeps_port_and_content_over_an_outage(
    registry_factory: Callable[..., DockerRegistry],
) -> None:
    registry = registry_factory()
    push(f"{registry.host}/a/b", IMAGE, "1")
    host, seen = registry.host, len(registry.requests())

    registry.stop()
    assert not is_listening(registry.port)
    registry.restart()

    assert registry.host == host
    assert skopeo.raw_manifest(f"{host}/a/b:1") == IMAGE.manifest.content
    assert len(registry.requests()) == seen + 2  # skopeo says hello, then reads


def test_a_registry_with_users_refuses_strangers(registry_factory: Callable[..., DockerRegistry]) -> None:
    registry = registry_factory(RegistryOptions(users=(("ann", "first"), ("bob", "second"))))

    assert ask(registry.host, "GET", "/v2/").status == 401
    open_to_all = registry_factory()
    push(f"{open_to_all.host}/a/b", IMAGE, "1")
    for credentials in ("ann:first", "bob:second"):
        options = [f"--dest-creds={credentials}", "--dest-tls-verify=false", "--src-tls-verify=false"]
        source, target = f"docker://{open_to_all.host}/a/b:1", f"docker://{registry.host}/a/b:1"
        skopeo.skopeo("copy", *options, source, target)


def test_a_registry_without_delete_refuses_to_delete(
    registry_factory: Callable[..., DockerRegistry],
) -> None:
    registry = registry_factory(RegistryOptions(delete=False))
    digest = push(f"{registry.host}/a/b", IMAGE, "1")

    assert ask(registry.host, "DELETE", f"/v2/a/b/manifests/{digest}").status == 405


def test_the_judge_sees_a_missing_blob(
    registry_factory: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    registry = registry_factory()
    push(f"{registry.host}/a/b", IMAGE, "1")
    skopeo.pull(f"{registry.host}/a/b:1", tmp_path / "whole")
    layer = IMAGE.layers[0].descriptor.digest.removeprefix("sha256:")
    (data,) = registry.storage.glob(f"**/blobs/sha256/{layer[:2]}/{layer}/data")
    data.unlink()
    registry.restart()  # it remembers blobs that it has seen

    with pytest.raises(skopeo.SkopeoError):
        skopeo.pull(f"{registry.host}/a/b:1", tmp_path / "broken")


def test_the_judge_tells_a_missing_tag_from_a_missing_registry(
    registry_factory: Callable[..., DockerRegistry],
) -> None:
    registry = registry_factory()
    push(f"{registry.host}/a/b", IMAGE, "1")

    assert skopeo.exists(f"{registry.host}/a/b:1")
    assert not skopeo.exists(f"{registry.host}/a/b:2")
    assert not skopeo.exists(f"{registry.host}/c/d:1")
    registry.stop()
    with pytest.raises(skopeo.SkopeoError):
        skopeo.exists(f"{registry.host}/a/b:1")


def test_a_valkey_keeps_its_data_over_a_restart(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        client.set("key", "value")
    valkey.restart()
    with valkey.client() as client:
        assert client.get("key") == b"value"


def test_a_process_is_stopped_with_its_children(tmp_path: Path) -> None:
    with Process(["sh", "-c", "sleep 600 & echo $!; wait"], tmp_path / "log") as process:
        child = int(until(lambda: process.text().strip(), 5, process.tail))
        process.kill()
        until(lambda: not _alive(child), 5, "the child's end")
        assert process.exit_code == -9


def test_waiting_ends_with_a_message_that_says_how_far_things_got() -> None:
    with pytest.raises(StillWaiting, match=r"after 0.01 s still waiting for 3 of 4 tags"):
        until(lambda: False, 0.01, lambda: "3 of 4 tags")


def test_a_scratch_folder_is_gone_afterwards() -> None:
    with scratch_folder() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert not folder.exists()


SKIPPING = {
    "test_in_a_test.py": "def test_x():\n    pytest.skip('no such program')\n",
    "test_in_a_module.py": "pytest.skip('no such machine', allow_module_level=True)\n",
    "test_expected.py": "@pytest.mark.xfail(strict=True)\ndef test_x():\n    assert False\n",
}


def test_a_skip_fails_where_nothing_may_be_left_out(tmp_path: Path) -> None:
    for name, source in SKIPPING.items():
        (tmp_path / name).write_text(f"import pytest\n{source}")

    strict = run_pytest(tmp_path, no_skips="1")
    assert "1 failed, 1 xfailed, 1 error" in strict
    assert "no such program" in strict
    assert "no such machine" in strict
    assert "2 skipped, 1 xfailed" in run_pytest(tmp_path, no_skips="")


def run_pytest(folder: Path, no_skips: str) -> str:
    plugins = ["-p", "tests.support.no_skips", "-p", "no:cacheprovider", "-p", "no:cloudcoil"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-rA", "--continue-on-collection-errors", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEALIFT_NO_SKIPS": no_skips},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
