"""``seed.py HOST/REPOSITORY TAG …``: push small images, built on the spot, to a registry without TLS."""

from __future__ import annotations

import sys

from registry.connections import Connections
from registry.credentials import ExplicitCredentials
from registry.endpoint import Endpoint
from registry.hello import hello_index
from registry.images import push


def main(name: str, *tags: str) -> None:
    """The tags that look like versions get an image each, any other the last of them."""
    connections = Connections(lambda host: Endpoint(host, plain_http=True), ExplicitCredentials({}))
    repository = connections.open(name)
    versions = [tag for tag in tags if tag[0].isdigit()]
    for tag in tags:
        index = hello_index(tag if tag in versions else versions[-1])
        push(repository, index, tag)
        print(f"{name}:{tag} {index.digest}")
    connections.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
