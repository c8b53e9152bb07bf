"""``python -m bench.scale.server``: one simulated registry as a process of its own.

Whoever measures asks for what was counted at ``/-/counts`` and changes the pulls that are allowed at
``/-/limit?pulls=N&window_s=S``; neither is counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from urllib.parse import parse_qs

from bench.scale.source import Source
from bench.scale.target import Target
from bench.scale.wire import Answer, Asked, Serve, serve_forever
from bench.scale.world import Size, World
from registry.memory_limits import PullLimits

NEVER_EMPTY = 10**8
COUNTS, LIMIT = "/-/counts", "/-/limit"


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    if options.role == "source":
        limits = PullLimits(NEVER_EMPTY, retry_after=True)
        serve = _source(Source(World(Size(**json.loads(options.size))), limits, options.page_size), limits)
    else:
        serve = _target(Target())
    serve_forever(serve, options.port)
    return 0


def _source(source: Source, limits: PullLimits) -> Serve:
    def serve(asked: Asked) -> Answer:
        if asked.path == COUNTS:
            return _json(source.document())
        if asked.path == LIMIT:
            query = parse_qs(asked.query)
            limits.pulls, limits.window_s = int(query["pulls"][0]), int(query["window_s"][0])
            limits.end_window()
            return Answer(204)
        return source.serve(asked)

    return serve


def _target(target: Target) -> Serve:
    def serve(asked: Asked) -> Answer:
        if asked.path == COUNTS:
            return _json({**target.document(), "digest": target.digest()})
        return target.serve(asked)

    return serve


def _json(document: dict[str, object]) -> Answer:
    return Answer(200, "Content-Type: application/json\r\n", json.dumps(document).encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale.server", description=__doc__)
    parser.add_argument("role", choices=("source", "target"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", default="{}", help="what a source holds, as JSON")
    parser.add_argument("--page-size", type=int, default=1000, help="most names in a page of a list")
    return parser


if __name__ == "__main__":
    sys.exit(main())
