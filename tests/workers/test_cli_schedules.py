"""``sealift schedules`` where nothing has run yet: no fleet is started to say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.cli import main

FLEET = """\
mirrors:
  - {name: app, source: ghcr.io/a/app, targets: ["localhost:5000/app"], schedule: "0 3 * * mon"}
  - {name: other, source: ghcr.io/a/other, targets: ["localhost:5000/other"]}
"""


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)


def test_a_schedule_that_no_beat_has_seen_has_its_next_slot(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sealift.yaml").write_text(FLEET)

    assert main(["schedules"]) == 0

    out, err = capsys.readouterr()
    _, row = out.splitlines()
    assert row.startswith("app     0 3 * * mon")
    assert "03:00 UTC" in row
    assert "start `sealift beat`" in err


def test_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sealift.yaml").write_text(FLEET)

    assert main(["schedules", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["beat_seen_ago_s"] is None
    (row,) = document["schedules"]
    assert (row["mirror"], row["slot_s"], row["run"], row["run_state"], row["misses"]) == (
        "app", None, "", None, []
    )  # fmt: skip


def test_without_any_schedule_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedules"]) == 0

    assert capsys.readouterr().out == "No mirror of the fleet file has a schedule.\n"
