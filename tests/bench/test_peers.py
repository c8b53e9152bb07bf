"""Every contender gets the same job, in its own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.jobs import Job
from bench.ours import Sealift, fleet_file
from bench.peers import PEERS, Peer
from bench.planned import plan
from bench.sets import ImageSet, many_tags, multi_arch, small_many

IMAGES: dict[str, ImageSet] = {"A": small_many(repositories=2, tags=2), "C": multi_arch(indexes=1)}
SOURCE, TARGETS = "127.0.0.1:1", ("127.0.0.1:2", "127.0.0.1:3")


@pytest.fixture(params=["A", "C"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    return Job(IMAGES[request.param], SOURCE, TARGETS, tmp_path)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_told_every_target(peer: Peer, job: Job) -> None:
    command = peer.prepare(job)
    told = " ".join(command.argv) + "".join(
        path.read_text() for path in job.folder.iterdir() if path.is_file()
    )
    assert SOURCE in told
    assert all(target in told for target in TARGETS)


def test_a_job_names_every_tag_once_for_each_target(job: Job) -> None:
    assert len(set(job.tag_pairs)) == len(job.images.tagged) * len(TARGETS)


def test_the_fleet_file_names_every_repository_and_target(job: Job) -> None:
    document = json.loads(json.dumps(fleet_file(job, ["local", "local"])))
    assert len(document["mirrors"]) == len(job.images.repositories)
    assert all(len(mirror["targets"]) == 2 for mirror in document["mirrors"])


def test_the_floor_reads_every_blob_once_and_puts_tags_last(job: Job) -> None:
    told = plan(job)
    digests = [blob["digest"] for blob in told["blobs"]]
    assert len(digests) == len(set(digests))
    tags = {one.tag for one in job.images.tagged}
    assert tags <= {one["name"] for one in told["manifests"][-1]}


def test_thousands_of_tags_are_for_those_who_only_look_at_them(tmp_path: Path) -> None:
    many, few = (Job(one, SOURCE, TARGETS, tmp_path) for one in (many_tags(tags=2, images=1), IMAGES["A"]))
    assert [peer.name for peer in PEERS if peer.takes(many)] == ["regsync"]
    assert all(peer.takes(few) for peer in PEERS)
    one_process, usual = Sealift("one", is_up=True, processes=1), Sealift("usual", is_up=True)
    assert [one.takes(many) for one in (one_process, usual)] == [True, False]
    assert [one.takes(few) for one in (one_process, usual)] == [False, True]
