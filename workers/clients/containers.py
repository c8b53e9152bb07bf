"""``registries.conf`` of podman, skopeo, buildah and CRI-O, as a drop-in: containers-registries.conf(5)."""

from __future__ import annotations

import tomlkit
from tomlkit.items import AoT, Table

from mirror.clients import Candidate, Choice
from workers.clients.made import Made, Making, about, comments, in_order, on_trust, toml_with, upstreams_of

FOLDER = "/etc/containers/registries.conf.d"


def make(making: Making) -> Made:
    """A ``[[registry]]`` for each name that references have. Raises Misfit where there is none."""
    choice = making.choice
    name = f"{choice.mirror.replace('/', '-')}.conf"
    more = [
        f"Belongs to {FOLDER}/{name}; it is read anew by every command.",
        "Accounts: `podman login HOST`, or auth.json; none belongs in here.",
    ]
    certificates = on_trust(making, choice, "put it into /etc/containers/certs.d/HOST/ca.crt")
    document = toml_with(comments(making, choice, *more, *certificates))
    document["registry"] = AoT([_registry(making, choice, one) for one in upstreams_of(choice)])
    return Made({name: tomlkit.dumps(document)}, document.unwrap(), choice)


def _registry(making: Making, choice: Choice, upstream: Candidate) -> Table:
    table = tomlkit.table()
    table.add("prefix", upstream.place)
    table.add("location", upstream.place)
    if making.trust_of(upstream).is_plain:
        table.add("insecure", value=True)
    mirrors = [_mirror(making, one) for one in in_order(choice, upstream)]
    if mirrors:
        table.add("mirror", AoT(mirrors))
    return table


def _mirror(making: Making, one: Candidate) -> Table:
    table = tomlkit.table()
    table.add(tomlkit.comment(about(one)))
    table.add("location", one.place)
    if making.trust_of(one).is_plain:
        table.add("insecure", value=True)
    if one.unresolved:
        table.add("pull-from-mirror", "digest-only")
    return table
