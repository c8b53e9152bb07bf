"""``python -m bench``: measure Sealift next to other tools, and say what came of it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import report
from bench.bars import COLD, FLEET, ONE_PROCESS, REGIONS, TWO_PROCESSES, bars
from bench.figures import Figures
from bench.jobs import Contender
from bench.ours import Sealift
from bench.peers import PEERS
from bench.planned import Floor
from bench.servers import NoRegistry
from bench.sets import MIB, ImageSet, big, many_tags, multi_arch, one_small, small_many
from bench.trials import Cell, Sample, Trials
from tests.support.certificates import make_certificates
from tests.support.scratch import scratch_folder

BEST_OF_EACH = (
    "skopeo sync",
    "skopeo copy x4",
    "crane",
    "crane x4",
    "regsync",
    "regctl x4",
    "oras x4",
    "image-syncer",
)
LEAST_ROUNDS = 2
SETS = "ABCUN"
N_TAGS = 5000
"""As many as fit into four minutes; tags per second are the same with twice as many."""
DOCS = Path(__file__).parent.parent / "docs"


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    # Told to end, it ends what it started; one in the background may have been born deaf to Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    everyone = contenders(options.peers)
    cells = [cell for images in image_sets(options) for cell in _cells(images, options.targets)]
    try:
        samples = read(options.read) if options.read else measured(cells, everyone, options)
    except NoRegistry as error:
        _say(str(error))
        return 2
    _conclude(samples, cells, options)
    return 0


def read(files: Sequence[Path]) -> list[Sample]:
    """What earlier runs wrote with ``--json``."""
    documents = [json.loads(file.read_text()) for file in files]
    return [Sample(**sample) for document in documents for sample in document["samples"]]


def measured(
    cells: Sequence[Cell], everyone: Sequence[Contender], options: argparse.Namespace
) -> list[Sample]:
    samples: list[Sample] = []
    with scratch_folder("sealift-bench-") as folder:
        certificates = make_certificates(folder) if options.tls else None
        trials = Trials(folder, certificates, options.rtt, _say)
        try:
            for sample in trials.run(cells, everyone, options.rounds):
                samples.append(sample)
                _say(report.line(sample))
        finally:
            trials.close()
            if options.json:
                document = {"schema": 1, "samples": [sample.document() for sample in samples]}
                options.json.write_text(json.dumps(document, indent=1))
    return samples


def contenders(names: Sequence[str] | None) -> list[Contender]:
    """Ourselves, the floor, and the peers that are installed (or those that are asked for by name)."""
    ours: list[Contender] = [
        Sealift(FLEET, is_up=True),
        Sealift(COLD, is_up=False),
        Sealift(REGIONS, is_up=True, regions=True),
        Floor(),
    ]
    scaled: list[Contender] = [
        Sealift(ONE_PROCESS, is_up=True, processes=1),
        Sealift(TWO_PROCESSES, is_up=True, processes=2),
    ]
    wanted = (*BEST_OF_EACH, "curl to curl") if names is None else names
    others = [peer for peer in PEERS if peer.is_here and peer.name in wanted]
    if names is not None:
        ours = [one for one in ours if one.name in names or one.name == FLEET]
    return [*ours, *scaled, *others]


def _cells(images: ImageSet, targets: Sequence[int]) -> list[Cell]:
    """Thousands of tags go to the most targets only."""
    return [Cell(images, count) for count in ([max(targets)] if images.is_mirrored else targets)]


def image_sets(options: argparse.Namespace) -> list[ImageSet]:
    quick = options.quick
    makers: dict[str, Callable[[], ImageSet]] = {
        "A": lambda: small_many(repositories=4) if quick else small_many(),
        "B": lambda: big(images=2, layer_bytes=16 * MIB) if quick else big(),
        "C": lambda: multi_arch(indexes=2) if quick else multi_arch(),
        "U": one_small,
        "N": lambda: many_tags(500 if quick else options.tags),
    }
    return [makers[key]() for key in options.sets]


def _conclude(samples: list[Sample], cells: Sequence[Cell], options: argparse.Namespace) -> None:
    figures = Figures(samples)
    judged = bars(
        figures, {cell.images.key: cell.images for cell in cells}, tls=options.tls, far=options.rtt > 0
    )
    sys.stdout.write(report.table(figures) + "\n\n")
    sys.stdout.write("\n".join(map(str, judged)) + "\n")
    for failed in figures.failures:
        _say(f"does not count: {report.line(failed)}")
    if options.docs if options.docs is not None else _is_whole(options):
        report.write(DOCS, figures, judged, _terms(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--sets", type=list, default=list(SETS), metavar=SETS, help="which image sets")
    add("--targets", type=_numbers, default=[1, 3], metavar="1,3", help="to how many targets")
    add(
        "--tags", type=int, default=N_TAGS, help=f"how many set N has (default: {N_TAGS}; its bar says 10000)"
    )
    add("--rounds", type=int, default=3)
    add("--quick", action="store_true", help="small sets: does it work, not how fast is it")
    add("--tls", action="store_true", help="registries that speak TLS")
    add("--rtt", type=float, default=0.0, metavar="MS", help="registries that are far away: a round trip")
    add("--peers", type=_names, metavar="NAME,…", help="only these, by the names that the table has")
    add("--json", type=Path, metavar="FILE", help="write every single run there")
    add("--read", type=Path, nargs="+", metavar="FILE", help="judge such files, measure nothing")
    add(
        "--docs",
        action=argparse.BooleanOptionalAction,
        help="write docs/performance.md and its chart; unless said, if everything was measured",
    )
    return parser


def _terms(options: argparse.Namespace) -> str:
    far = f", {options.rtt:g} ms away" if options.rtt else ""
    return ("TLS" if options.tls else "plain HTTP") + far


def _is_whole(options: argparse.Namespace) -> bool:
    """Whether nothing was left out, so that the documentation may say it."""
    narrowed = options.quick or options.tls or options.rtt or options.peers or options.rounds < LEAST_ROUNDS
    return not narrowed and set(options.sets) == set(SETS) and set(options.targets) == {1, 3}


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _names(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
