"""What stands in deploy/ is what the product itself does."""

from __future__ import annotations

from pathlib import Path

from workers import processes

ROOT = Path(__file__).parent.parent


def test_a_fleets_server_is_told_what_the_embedded_one_is_told() -> None:
    lines = (ROOT / "deploy" / "valkey.conf").read_text().splitlines()
    written = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    command = processes.server("valkey-server", Path("data"), Path("socket"))
    told = {
        option.removeprefix("--"): value for option, value in zip(command[1::2], command[2::2], strict=True)
    }

    assert {name: value.strip('"') for name, value in written.items()}.items() <= told.items()
