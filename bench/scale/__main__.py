"""``python -m bench.scale``: a backfill of very many tags, and what it costs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench.scale import report
from bench.scale.rig import Shape
from bench.scale.trial import Outcome, Plan, measure
from bench.scale.world import Size
from tests.support.scratch import scratch_folder

Sized = tuple[int, int]
"""(tags, of how many repositories one is new)."""
SIZES: list[Sized] = [(10_000, 1), (1_000_000, 20)]
TAGS_PER_REPOSITORY = 500
PULLS_LAST = 2.25
"""Windows, of what tags that move need; a tenth of each is kept for releases."""
DOCS = Path(__file__).parent.parent.parent / "docs"


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what it started
    outcomes = [one for file in options.read for one in _read(file)] if options.read else _measured(options)
    sys.stdout.write(report.markdown(outcomes) + "\n")
    if options.docs:
        report.write(DOCS, outcomes)
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    for problem in problems:
        _say(problem)
    return 1 if problems else 0


def _measured(options: argparse.Namespace) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for tags, one_new_in in options.tags:
        _say(f"{tags} tags, one repository in {one_new_in} new")
        with scratch_folder("sealift-scale-") as folder:
            outcomes.append(measure(folder, _plan(options, tags, one_new_in), _say))
        if options.json:  # every time: what was measured is kept, however this ends
            document = {"schema": 1, "outcomes": [asdict(outcome) for outcome in outcomes]}
            options.json.write_text(json.dumps(document))
    return outcomes


def _plan(options: argparse.Namespace, tags: int, one_new_in: int) -> Plan:
    """Where most is there already, the first run looks at what is there: it is not run again."""
    repositories = options.repositories or max(1, tags // TAGS_PER_REPOSITORY)
    size = Size(tags, repositories, options.tags_per_image, one_new_in=one_new_in)
    shape = Shape(size, options.targets, options.regions, options.processes)
    moved = repositories // 10
    images = moved * tags // repositories // options.tags_per_image
    return Plan(
        replace(shape, settings=dict(options.settings or ())),
        options.crash,
        options.again and one_new_in == 1,
        moved=moved if options.moved and one_new_in == 1 else 0,
        moved_pulls=max(1, round(images / PULLS_LAST)),
    )


def _read(file: Path) -> list[Outcome]:
    """What an earlier run wrote with ``--json``."""
    return [Outcome.parse(document) for document in json.loads(file.read_text())["outcomes"]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    add = parser.add_argument
    add(
        "--tags",
        type=_sizes,
        default=SIZES,
        metavar="N[/K],…",
        help="one measurement for each; with /K the targets hold all repositories but one in K",
    )
    add("--repositories", type=int, help=f"unless said, one for {TAGS_PER_REPOSITORY} tags")
    add("--tags-per-image", type=int, default=2)
    add("--targets", type=int, default=3)
    add("--regions", type=int, default=1)
    add("--processes", type=int, default=4, help="of each region's worker")
    add("--set", dest="settings", action="append", type=_setting, metavar="VARIABLE=VALUE")
    add("--no-crash", dest="crash", action="store_false", help="let the fleet work to the end")
    add("--no-again", dest="again", action="store_false", help="do not run it again")
    add("--no-moved", dest="moved", action="store_false", help="do not have tags move at the end")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    add("--read", type=Path, nargs="+", metavar="FILE", help="show such files, measure nothing")
    add("--docs", action="store_true", help="write docs/scale.md")
    return parser


def _sizes(text: str) -> list[Sized]:
    words = (word.partition("/") for word in text.split(","))
    return [(int(tags), int(one_new_in or 1)) for tags, _, one_new_in in words]


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
