"""``daemon.json`` of dockerd: ``registry-mirrors``, which are for images of docker.io and nothing else.

Each is asked for every image of docker.io and believed about its tags, and its address has no path.
"""

from __future__ import annotations

import json
from typing import Any

from mirror.clients import Candidate
from registry.reference import DOCKER_HUB
from workers.clients.made import Made, Making, Misfit, comments, on_trust, upstreams_of, url_of

_INSTEAD = (
    "--format github or kubernetes name the registry itself, containers (podman) and containerd do this"
)


def make(making: Making) -> Made:
    """Raises Misfit where references do not name docker.io, or no registry could stand in for it."""
    whole = making.choice
    upstreams = upstreams_of(whole)
    upstream = next((one for one in upstreams if one.host == DOCKER_HUB), None)
    if upstream is None:
        hosts = ", ".join(one.host for one in upstreams)
        raise Misfit(
            f"docker reads registry-mirrors for images of docker.io only, and {whole.mirror} is of {hosts}: "
            f"{_INSTEAD}"
        )
    unfit = {one.place: why for one in whole.candidates if (why := _unfit(one, upstream))}
    if all(one.place in unfit or one.place == upstream.place for one in whole.candidates):
        (reason, *_) = unfit.values() or ["there is no other"]
        raise Misfit(f"no registry of {whole.mirror} can be a registry-mirror: {reason}; {_INSTEAD}")
    doubtful = {one.place: one.unresolved for one in whole.candidates if one.unresolved}
    choice = whole.without(doubtful | unfit)
    found = [one for one in choice.chosen if one.place != upstream.place]
    values: dict[str, Any] = {"registry-mirrors": [url_of(one.host, making.trust_of(one)) for one in found]}
    if insecure := [one.host for one in found if making.trust_of(one).is_plain]:
        values["insecure-registries"] = insecure
    more = [
        "Belongs into /etc/docker/daemon.json, beside what is there; `systemctl reload docker` takes it.",
        "A mirror is asked for every image of docker.io, before docker.io itself, whatever was measured.",
        "There is no place for a mirror's account: it has to let anybody pull.",
    ]
    certificates = on_trust(making, choice, "put it into /etc/docker/certs.d/HOST/ca.crt")
    notes = comments(making, choice, *more, *certificates)
    return Made({"daemon.json": f"{json.dumps(values, indent=2)}\n"}, values, choice, tuple(notes))


def _unfit(one: Candidate, upstream: Candidate) -> str:
    if one.place == upstream.place:
        return ""
    if one.path != upstream.path:
        return f"docker cannot rename: it asks {one.host} for {upstream.path}"
    if one.is_shared:
        return "docker would believe it about every image of docker.io, and names there may be anybody's"
    return ""
