"""How fast is fast enough: ratios to named peers of the same run, each one line with pass or short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.figures import Figure, Figures, Row, title
from bench.sets import ImageSet

FLEET, COLD, REGIONS = "sealift", "sealift cold", "sealift 3 regions"
ONE_PROCESS, TWO_PROCESSES = "sealift 1 process", "sealift 2 processes"
BEST = "best peer"
Measure = Literal["wall_s", "cpu_s"]
Verdict = Literal["pass", "short", "not measured"]


@dataclass(frozen=True, slots=True)
class Bar:
    row: Row
    text: str
    verdict: Verdict
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict:<12}  {title(self.row):<14}  {self.text:<46}  {self.detail}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """``ours`` is at most ``limit`` times ``peer``."""

    row: Row
    measure: Measure
    limit: float
    peer: str
    ours: str = FLEET


A1, A3 = Row("A", 1, "full"), Row("A", 3, "full")
B1, B3 = Row("B", 1, "full"), Row("B", 3, "full")
C1, C3 = Row("C", 1, "full"), Row("C", 3, "full")
AGAIN1, AGAIN3, MOVED3 = Row("A", 1, "again"), Row("A", 3, "again"), Row("A", 3, "moved")
U1 = Row("U", 1, "full")
N3 = Row("N", 3, "again")

RATIOS: tuple[Ratio, ...] = (
    Ratio(A1, "wall_s", 0.95, BEST),
    Ratio(A1, "cpu_s", 1.3, "crane"),
    Ratio(C1, "wall_s", 1.0, BEST),
    Ratio(C1, "cpu_s", 1.3, "crane"),
    Ratio(A3, "wall_s", 0.65, BEST),
    Ratio(C3, "wall_s", 0.75, BEST),
    Ratio(B1, "wall_s", 1.0, BEST),
    Ratio(B1, "cpu_s", 0.7, "crane"),
    Ratio(B3, "wall_s", 0.9, BEST),
    Ratio(AGAIN1, "wall_s", 1.2, "regsync"),
    Ratio(AGAIN3, "wall_s", 1.0, "regsync"),
    Ratio(A3, "wall_s", 0.85, BEST, REGIONS),
    Ratio(MOVED3, "wall_s", 0.8, BEST),
)
FAR_RATIOS: tuple[Ratio, ...] = (
    Ratio(A1, "wall_s", 0.75, BEST),
    Ratio(C1, "wall_s", 0.75, BEST),
    Ratio(AGAIN1, "wall_s", 1.0, "regsync"),
)
"""What is asked with 20 ms to every registry; regsync is then told to ask more at a time."""
SKOPEO_CPU = {False: 0.3, True: 0.45}
"""B x 1, by whether TLS is spoken."""
WORKER_MIB = 120
REFERRER_LIST_BYTES = 600
"""At most, where one thing refers to an image."""
U_EXTRA_S, U_COLD_S = 0.6, 3.0
RATE_LIMITS = {ONE_PROCESS: 1.0, TWO_PROCESSES: 2.0}
"""N x 3: how many times regsync's tags per second."""

RECORDED: dict[Row, dict[str, tuple[float, float]]] = {
    A1: {BEST: (3.65, 1.1), "crane": (3.65, 1.1), "skopeo sync": (8.9, 3.4)},
    A3: {BEST: (11.3, 2.7), "skopeo sync": (24.4, 9.3)},
    B1: {BEST: (6.8, 1.9), "crane": (7.9, 3.7), "skopeo sync": (9.0, 5.0)},
    B3: {BEST: (24.4, 6.4), "skopeo sync": (30.2, 15.0)},
    C1: {BEST: (2.4, 0.7), "crane": (3.5, 1.0), "skopeo sync": (4.7, 2.4)},
    C3: {BEST: (7.9, 2.6), "skopeo sync": (12.6, 7.0)},
    AGAIN1: {"regsync": (0.27, 0.1), "skopeo sync": (1.52, 1.0)},
    AGAIN3: {"regsync": (0.89, 0.3), "skopeo sync": (4.07, 3.0)},
}
"""(wall, CPU) seconds of one run of all tools on one machine (docker-registry 2.8.2, plain HTTP). Where a
named peer is not installed, what is asked of it follows from skopeo's figure and these."""


def bars(figures: Figures, sets: Mapping[str, ImageSet], *, tls: bool, far: bool = False) -> list[Bar]:
    """Every bar whose row was measured."""
    if far:
        return [_ratio(figures, ratio) for ratio in FAR_RATIOS if ratio.row in figures.rows]
    skopeo = Ratio(B1, "cpu_s", SKOPEO_CPU[tls], "skopeo sync")
    found = [_ratio(figures, ratio) for ratio in (*RATIOS, skopeo)]
    found += _fewest(figures)
    found += _read_once(figures, sets)
    found += _memory(figures)
    found += _nothing_to_do(figures, sets)
    found += _one_image(figures)
    found += _rates(figures, sets)
    measured = set(figures.rows)
    return [bar for bar in found if bar.row in measured]


def _ratio(figures: Figures, bar: Ratio) -> Bar:
    unit = "wall" if bar.measure == "wall_s" else "CPU"
    who = "" if bar.ours == FLEET else f"{bar.ours}: "
    text = f"{who}{unit} ≤ {bar.limit:g} x {bar.peer}"
    ours = figures.row(bar.row).get(bar.ours)
    reference = _reference(figures, bar)
    if ours is None or reference is None:
        return Bar(bar.row, text, "not measured", "")
    theirs, name = reference
    own = getattr(ours, bar.measure)
    ratio = own / theirs
    verdict: Verdict = "pass" if ratio <= bar.limit else "short"
    return Bar(bar.row, text, verdict, f"{ratio:.2f} ({own:.2f} s; {name} {theirs:.2f} s)")


def _reference(figures: Figures, bar: Ratio) -> tuple[float, str] | None:
    """The peer's figure and its name; from skopeo's where that peer is absent."""
    present = figures.row(bar.row)
    others = {name for name, one in present.items() if one.is_peer and not name.startswith("skopeo")}
    best = figures.best_peer(bar.row)
    if bar.peer == BEST and others and best:
        return getattr(best, bar.measure), best.contender
    if bar.peer in present:
        return getattr(present[bar.peer], bar.measure), bar.peer
    recorded, skopeo = RECORDED.get(bar.row, {}), present.get("skopeo sync")
    if bar.peer not in recorded or skopeo is None:
        return None
    index = 0 if bar.measure == "wall_s" else 1
    share = recorded[bar.peer][index] / recorded["skopeo sync"][index]
    return getattr(skopeo, bar.measure) * share, f"{bar.peer} from skopeo's by {share:.2f}:"


def _fewest(figures: Figures) -> Iterator[Bar]:
    for row in (A1, C1):
        for side in ("source", "target"):
            name = f"{side}_requests"
            ours = figures.row(row).get(FLEET)
            peers = [(getattr(one, name), one.contender) for one in figures.row(row).values() if one.is_peer]
            text = f"requests at {side} fewer than any peer"
            if ours is None or not peers:
                yield Bar(row, text, "not measured", "")
                continue
            fewest, who = min(peers)
            own = getattr(ours, name)
            yield Bar(row, text, "pass" if own < fewest else "short", f"{own:.0f} ({who} {fewest:.0f})")


def _read_once(figures: Figures, sets: Mapping[str, ImageSet]) -> Iterator[Bar]:
    for row in (A3, C3, B3):
        if ours := figures.row(row).get(FLEET):
            repeated = ours.source_repeated_reads + ours.source_repeated_manifest_reads
            verdict: Verdict = "short" if repeated else "pass"
            yield Bar(row, "nothing is read twice at the source", verdict, f"{repeated:.0f} repeated")
            share = ours.source_bytes / _distinct_bytes(sets[row.set])
            verdict = "pass" if share <= 1.0 else "short"
            yield Bar(row, "bytes read at the source ≤ 1 x distinct", verdict, f"{share:.3f}")
    if ours := figures.row(A3).get(REGIONS):
        repeated = ours.source_repeated_manifest_reads
        text = f"{REGIONS}: no manifest is read twice"
        yield Bar(A3, text, "short" if repeated else "pass", f"{repeated:.0f} repeated")


def _distinct_bytes(images: ImageSet) -> int:
    """With the lists that name referrers: they are in no set, for whoever pushes writes them."""
    return images.content_bytes + REFERRER_LIST_BYTES * sum(bool(one.referrers) for one in images.tagged)


def _memory(figures: Figures) -> Iterator[Bar]:
    for row in (B1, B3):
        if ours := figures.row(row).get(FLEET):
            mib = ours.peak_bytes / 2**20
            verdict: Verdict = "pass" if mib <= WORKER_MIB else "short"
            yield Bar(row, f"largest process ≤ {WORKER_MIB} MiB", verdict, f"{mib:.0f} MiB")


def _nothing_to_do(figures: Figures, sets: Mapping[str, ImageSet]) -> Iterator[Bar]:
    for row in (AGAIN1, AGAIN3):
        if ours := figures.row(row).get(FLEET):
            heads = ours.source_heads, ours.target_heads / row.targets
            is_least = {*heads} == {float(len(sets[row.set].tagged))} and not ours.source_manifest_reads
            detail = (
                f"{heads[0]:.0f} and {heads[1]:.0f} HEAD, {ours.source_manifest_reads:.0f} manifests read"
            )
            text = "one HEAD per tag and registry, no manifest"
            yield Bar(row, text, "pass" if is_least else "short", detail)


def _one_image(figures: Figures) -> Iterable[Bar]:
    present = figures.row(U1)
    peer: Figure | None = present.get("crane") or present.get("skopeo copy") or present.get("skopeo sync")
    if (ours := present.get(FLEET)) and peer:
        extra = ours.wall_s - peer.wall_s
        verdict: Verdict = "pass" if extra <= U_EXTRA_S else "short"
        detail = f"{extra:.2f} s ({ours.wall_s:.2f}; {peer.contender} {peer.wall_s:.2f})"
        yield Bar(U1, f"at most {U_EXTRA_S} s beyond one copy by a peer", verdict, detail)
    if cold := present.get(COLD):
        verdict = "pass" if cold.wall_s <= U_COLD_S else "short"
        yield Bar(U1, f"fleet started for it: ≤ {U_COLD_S:g} s", verdict, f"{cold.wall_s:.2f} s")


def _rates(figures: Figures, sets: Mapping[str, ImageSet]) -> Iterator[Bar]:
    present = figures.row(N3)
    for who, limit in RATE_LIMITS.items():
        text = f"{who}: tags/s ≥ {limit:g} x regsync"
        ours, peer = present.get(who), present.get("regsync")
        if ours is None or peer is None:
            yield Bar(N3, text, "not measured", "")
            continue
        tags = len(sets[N3.set].tagged)
        own, theirs = tags / ours.wall_s, tags / peer.wall_s
        verdict: Verdict = "pass" if own >= limit * theirs else "short"
        yield Bar(N3, text, verdict, f"{own / theirs:.2f} ({own:.0f} tags/s; regsync {theirs:.0f})")
