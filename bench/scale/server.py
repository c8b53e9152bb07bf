"""``python -m bench.scale.server``: one simulated registry as a process of its own.

Whoever measures asks for what was counted at ``/-/counts``, for one digest of all
tags at ``/-/digest``, changes the pulls that are allowed at
``/-/limit?pulls=N`` and has tags move at ``/-/move?repositories=N``; none of these is counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from bench.scale.source import Source
from bench.scale.target import Target
from bench.scale.wire import Answer, Asked, Serve, serve_forever
from bench.scale.world import Size, World
from registry.memory_limits import PullLimits
from tests.support.ports import LOOPBACK

NEVER_EMPTY = 10**8
WINDOW_S = 10
"""Docker Hub's is six hours."""
COUNTS, DIGEST, LIMIT, MOVE = "/-/counts", "/-/digest", "/-/limit?pulls=", "/-/move?repositories="


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    if options.role == "source":
        limits = PullLimits(NEVER_EMPTY, WINDOW_S, retry_after=True)
        serve = _source(Source(World(Size(**json.loads(options.size))), limits, options.page_size), limits)
    else:
        target = Target(f"{LOOPBACK}:{options.port}")
        target.fill(World(Size(**json.loads(options.size))))
        serve = _target(target)
    serve_forever(serve, options.port)
    return 0


def _source(source: Source, limits: PullLimits) -> Serve:
    def serve(asked: Asked) -> Answer:
        url = f"{asked.path}?{asked.query}"
        if asked.path == COUNTS:
            return _json(source.document())
        if asked.path == DIGEST:
            return _json({"digest": source.digest()})
        if url.startswith(LIMIT):
            limits.pulls = int(url.removeprefix(LIMIT))
            limits.end_window()
            return Answer(204)
        if url.startswith(MOVE):
            source.world.move(int(url.removeprefix(MOVE)))
            return Answer(204)
        return source.serve(asked)

    return serve


def _target(target: Target) -> Serve:
    def serve(asked: Asked) -> Answer:
        if asked.path == COUNTS:
            return _json(target.document())
        if asked.path == DIGEST:
            return _json({"digest": target.digest()})
        return target.serve(asked)

    return serve


def _json(document: dict[str, object]) -> Answer:
    return Answer(200, "Content-Type: application/json\r\n", json.dumps(document).encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale.server", description=__doc__)
    parser.add_argument("role", choices=("source", "target"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", default="{}", help="what the source holds, as JSON")
    parser.add_argument("--page-size", type=int, default=1000, help="most names in a page of a list")
    return parser


if __name__ == "__main__":
    sys.exit(main())
