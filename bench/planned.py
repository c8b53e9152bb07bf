"""The floor as a contender: writes the plan that it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bench.jobs import Command, Contender, Job, environment
from bench.sets import Tagged, blobs, parts


class Floor(Contender):
    """Not a peer: it finds out nothing, checks nothing, survives nothing."""

    name = "floor"
    copies_all = False

    def prepare(self, job: Job) -> Command:
        file = job.write("plan.json", plan(job))
        script = Path(__file__).with_name("floor.py")
        return Command((sys.executable, "-I", str(script), str(file)), environment(job))


def plan(job: Job) -> dict[str, Any]:
    homes: dict[str, dict[str, None]] = {}
    levels: dict[int, dict[tuple[str, str], dict[str, str]]] = {}
    for one in job.images.tagged:
        for content in (one.content, *one.referrers):
            for blob in blobs(content):
                homes.setdefault(blob.descriptor.digest, {})[one.repository] = None
        _add_manifests(levels, one)
    sizes = job.images.sizes
    return {
        "source": job.source,
        "targets": job.targets,
        "authority": str(job.authority) if job.authority else "",
        "blobs": [
            {"digest": digest, "size": sizes[digest], "repositories": list(names)}
            for digest, names in homes.items()
        ],
        "manifests": [list(levels[level].values()) for level in sorted(levels)],
    }


def _add_manifests(levels: dict[int, dict[tuple[str, str], dict[str, str]]], one: Tagged) -> None:
    """Children before parents, tags last; a root is put by its tag alone."""
    for content in (one.content, *one.referrers):
        *below, root = parts(content)
        for part in below:
            levels.setdefault(0, {})[one.repository, part.digest] = _put(
                one.repository, part.digest, part.digest, part
            )
        name = one.tag if content is one.content else root.digest
        levels.setdefault(1, {})[one.repository, name] = _put(one.repository, root.digest, name, root)


def _put(repository: str, digest: str, name: str, part: Any) -> dict[str, str]:
    return {"repository": repository, "digest": digest, "name": name, "kind": part.manifest.media_type}
