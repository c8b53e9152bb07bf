from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import Settings
from tests.support.process import surroundings

MALFORMED = "redis://:hunter2@redis.example:port/0"
UNITS = ("_s", "_mib", "_kib", "_tags", "_batches", "_threads", "_flips", "_processes")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SEALIFT_{name.upper()}", raising=False)


def test_nothing_has_to_be_set() -> None:
    settings = Settings()

    assert settings.redis_url is None
    assert settings.fleet_file == Path("sealift.yaml")
    assert settings.state_dir.name == "sealift"


def test_a_variable_of_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALIFT_BATCH_TAGS", "7")
    monkeypatch.setenv("SEALIFT_FLEET_FILE", "/etc/sealift/fleet.yaml")

    assert Settings().batch_tags == 7
    assert Settings().fleet_file == Path("/etc/sealift/fleet.yaml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_TAGS", "0"),
        ("BATCH_TAGS", "501"),
        ("COPY_THREADS", "65"),
        ("STALL_S", "-1"),
        ("TRANSPORT", "carrier pigeon"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SEALIFT_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_the_redis_password_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALIFT_REDIS_URL", "redis://:hunter2@redis.example/0")

    settings = Settings()

    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize("fleet_file", ["", "redis_url: env:ELSEWHERE\n"])
def test_a_process_that_ends_over_a_malformed_redis_url_does_not_print_its_password(
    fleet_file: str, tmp_path: Path
) -> None:
    (tmp_path / "sealift.yaml").write_text(fleet_file)
    named = {"SEALIFT_FLEET_FILE": str(tmp_path / "sealift.yaml")} if fleet_file else {}
    told = {**named, "ELSEWHERE": MALFORMED} if fleet_file else {"SEALIFT_REDIS_URL": MALFORMED}

    ended = subprocess.run(
        [sys.executable, "-P", "-m", "workers.launch", "beat"],
        env={**surroundings(), **told},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode != 0
    assert "not a Redis URL" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().batch_tags = 3  # type: ignore[misc] # that it cannot be set is the test


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_and_every_number_has_its_unit(name: str) -> None:
    field = Settings.model_fields[name]

    assert field.description
    if "int" in str(field.annotation) or "float" in str(field.annotation):
        assert name.endswith(UNITS) or name in {"attempts", "confirm_replicas"}
