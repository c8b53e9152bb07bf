"""``sealift page``: written by an embedded fleet's command, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.images import build_image
from registry.memory import MemoryRegistry
from tests.support.typed import typed
from workers.cli import main


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SEALIFT_WORKER_PROCESSES", "1")
    monkeypatch.setattr("tasks.runtime._made", [])
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)


def write(
    source: str = "one.example", target: str = "two.example", page: dict[str, object] | None = None
) -> None:
    mirror = {"name": "app", "source": f"{source}/app", "targets": [f"{target}/app"]}
    Path("sealift.yaml").write_text(json.dumps({"page": page or {}, "mirrors": [mirror]}))


@pytest.mark.fleet
def test_after_a_sync_the_page_says_that_all_is_in_step() -> None:
    with MemoryRegistry() as source, MemoryRegistry() as target:
        image = build_image({"app": b"one"})
        source.hold("app", image, "v1")
        write(source.host, target.host, {"title": "Our images", "url": "https://status.example.org"})
        synced = typed("sync")
        assert synced.returncode == 0, synced.stderr

        document = json.loads(typed("page", "--out", "public", "--json").stdout)

        assert document["mirrors"] == {"app": "in step"}
        assert document["files"][-1] == "public/index.html"
        html = Path("public/index.html").read_text()
        assert "<h1>Our images</h1>" in html
        assert f"docker pull {target.host}/app:v1" in html
        status = json.loads(Path("public/status.json").read_text())
        assert status["mirrors"][0]["tags"][0]["digest"] == image.digest
        assert 'href="https://status.example.org/"' in Path("public/feed.atom").read_text()
        assert ">in step<" in Path("public/badges/app.svg").read_text()
        assert typed("page", "--out", "public").stdout == "public/index.html: 1 mirror\n"


def test_a_place_that_is_no_folder_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    Path("public").write_text("a file")
    assert main(["page", "--out", "public"]) == 3
    assert "--out public: is a file; name a folder" in capsys.readouterr().err


def test_without_mirrors_there_is_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sealift.yaml").write_text("mirrors: []\n")
    assert main(["page", "--out", "public"]) == 3
    assert "sealift.yaml has no mirrors to show" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ({"title": "a\nb"}, "page.title: must be one line of up to 100 characters"),
        ({"url": "status.example.org"}, "page.url: must be the page's address, as https://"),
        ({"tags": 0}, "page.tags"),
        ({"mirrors": "app"}, "page.mirrors"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(
    page: dict[str, object], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(page=page)
    assert main(["page", "--out", "public"]) == 3
    assert text in capsys.readouterr().err
