"""What is watched of a fleet beside its ledger: names of its file, and how long messages have waited."""

from __future__ import annotations

import pytest

from config.fleet import parse_fleet
from tasks.watched import _reported, names_of


def test_the_names_of_a_fleet_file_are_its_mirrors_regions_registries_and_receivers() -> None:
    fleet = parse_fleet(
        """\
registries: {ghcr.io: {}}
mirrors:
  - name: app
    source: alpine
    targets: [{region: eu, repository: eu.example/app}, {region: us, repository: "oci:/data"}]
  - {name: wrong, source: "src.example/UPPER", targets: [us.example/app]}
notify: [{name: team, to: env:TEAM_URL}]
"""
    )

    assert names_of(fleet) == {
        "mirror": {"app", "wrong"},
        "region": {"eu", "us", "local"},
        "registry": {"docker.io", "eu.example", "ghcr.io"},
        "receiver": {"team"},
    }


def test_a_message_that_does_not_say_when_it_was_sent_has_no_age() -> None:
    a_strangers, ours = b'{"headers": {"task": "sealift.sweep"}}', b'{"headers": {"sent_s": 100}}'

    report = _reported("control", [0, 2, a_strangers, 1, ours, 0, None])

    assert report.waiting == {"first": 2, "release": 1, "backfill": 0}
    assert report.oldest_s == 100.0
    assert report.unacknowledged is None, "the control queue's are with the regions that took them"


@pytest.mark.parametrize("odd", [b"", b"no JSON", b"\xff", b"[]", b"1", b'{"headers": null}'])
def test_an_entry_that_is_no_message_has_no_age_and_hides_nothing_else(odd: bytes) -> None:
    report = _reported("eu", [1, 1, odd, 1, b'{"headers": {"sent_s": 100}}', 0, None])

    assert (report.oldest_s, report.unacknowledged) == (100.0, 1)
