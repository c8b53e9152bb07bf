"""``sealift clients``: what is refused, in one line. Real clients: tests/fleet/test_pulling.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.cli import main


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)


def write(*targets: dict[str, str], source: str = "one.example/app") -> None:
    Path("sealift.yaml").write_text(
        json.dumps({"mirrors": [{"name": "app", "source": source, "targets": targets}]})
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["ap"], 'the fleet file has no mirror "ap"; did you mean "app"?'),
        (["app/x", "--region", "eu"], "app has no 'x' but is one repository: name the mirror, as app"),
        (["app"], "app has targets in eu and us: say where the clients are, as --region eu"),
        (["app", "--region", "ap"], "app has no target in region 'ap'; there is: eu and us"),
        (["app", "--region", "eu", "--platform", "amd64"], "--platform: not a platform"),
        (["app", "--region", "eu", "--tag", "!"], "'!' is not a tag"),
        (["app", "--region", "eu"], "no run of app has ended yet, so nothing is known of its registries: "),
    ],
)
def test_what_cannot_be_is_one_line_that_says_what_to_do(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write({"region": "eu", "repository": "eu.example/app"}, {"region": "us", "repository": "us.example/app"})
    assert main(["clients", *words, "--format", "containers"]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "state").exists()
