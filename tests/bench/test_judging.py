"""From samples to medians, bars, tables and a chart."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import report
from bench.bars import COLD, FLEET, ONE_PROCESS, REGIONS, TWO_PROCESSES, Bar, bars
from bench.chart import chart
from bench.figures import Figures, Row, title
from bench.sets import ImageSet, many_tags, multi_arch, small_many
from bench.trials import Phase, Sample

IMAGES: dict[str, ImageSet] = {
    "A": small_many(repositories=1, tags=1),
    "N": many_tags(tags=100, images=1),
}


def sample(contender: str, wall_s: float, *, phase: Phase = "full", **given: object) -> Sample:
    zeros: dict[str, object] = {field.name: 0 for field in fields(Sample)}
    said = {
        "set": "A",
        "targets": 1,
        "phase": phase,
        "contender": contender,
        "is_peer": not contender.startswith("sealift"),
        "wall_s": wall_s,
        "cpu_s": 1.0,
        "problem": "",
    }
    return Sample(**{**zeros, **said, **given})  # type: ignore[arg-type]  # by name, as above


def verdicts(*samples: Sample) -> dict[str, Bar]:
    return {bar.text: bar for bar in bars(Figures(samples), IMAGES, tls=False)}


def test_a_median_is_taken_of_the_runs_that_count() -> None:
    runs = [sample("crane", wall) for wall in (3.0, 1.0, 2.0)]
    broken = sample("crane", 0.1, problem="exit 1")
    figures = Figures([*runs, broken])
    assert figures.row(Row("A", 1, "full"))["crane"].wall_s == 2.0
    assert figures.failures == [broken]


def test_rows_name_their_set_targets_and_phase() -> None:
    assert title(Row("A", 3, "full")) == "A x 3"
    assert title(Row("A", 3, "again")) == "A x 3 again"


@pytest.mark.parametrize(("wall_s", "verdict"), [(0.95, "pass"), (0.96, "short")])
def test_a_bar_is_a_ratio_to_the_fastest_peer_of_the_run(wall_s: float, verdict: str) -> None:
    bar = verdicts(sample(FLEET, wall_s), sample("crane", 1.0), sample("regsync", 1.5))[
        "wall ≤ 0.95 x best peer"
    ]
    assert bar.verdict == verdict
    assert "crane" in bar.detail


def test_without_its_peer_a_bar_follows_from_skopeo() -> None:
    bar = verdicts(sample(FLEET, 3.4), sample("skopeo sync", 8.9))["wall ≤ 0.95 x best peer"]
    assert bar.verdict == "pass"
    assert "from skopeo's" in bar.detail


def test_a_bar_without_any_peer_says_so() -> None:
    assert verdicts(sample(FLEET, 1.0))["wall ≤ 0.95 x best peer"].verdict == "not measured"


def test_nothing_to_do_is_one_head_a_tag_and_no_manifest() -> None:
    text = "one HEAD per tag and registry, no manifest"
    least = sample(FLEET, 1.0, phase="again", source_heads=1, target_heads=1)
    more = sample(FLEET, 1.0, phase="again", source_heads=1, target_heads=1, source_manifest_reads=1)
    assert verdicts(least)[text].verdict == "pass"
    assert verdicts(more)[text].verdict == "short"


def test_requests_have_to_be_fewer_than_any_peers() -> None:
    text = "requests at source fewer than any peer"
    peer = sample("crane", 1.0, source_requests=10)
    assert verdicts(sample(FLEET, 1.0, source_requests=9), peer)[text].verdict == "pass"
    assert verdicts(sample(FLEET, 1.0, source_requests=10), peer)[text].verdict == "short"


def test_a_manifest_may_not_be_read_twice_under_one_name() -> None:
    once, again = "nothing is read twice at the source", f"{REGIONS}: no manifest is read twice"
    found = verdicts(
        *(sample(one, 1.0, targets=3, source_repeated_manifest_reads=1) for one in (FLEET, REGIONS))
    )
    assert (found[once].verdict, found[again].verdict) == ("short", "short")


def test_regions_may_each_read_a_layer() -> None:
    found = verdicts(sample(REGIONS, 1.0, targets=3, source_repeated_reads=2))
    assert found[f"{REGIONS}: no manifest is read twice"].verdict == "pass"


@pytest.mark.parametrize(("wall_s", "one", "two"), [(1.0, "pass", "pass"), (1.1, "short", "short")])
def test_thousands_of_tags_are_looked_at_as_fast_as_by_regsync_and_twice_that(
    wall_s: float, one: str, two: str
) -> None:
    here = {"set": "N", "targets": 3}
    found = verdicts(
        sample(ONE_PROCESS, wall_s, phase="again", **here),
        sample(TWO_PROCESSES, wall_s / 2, phase="again", **here),
        sample("regsync", 1.0, phase="again", **here),
    )
    assert found[f"{ONE_PROCESS}: tags/s ≥ 1 x regsync"].verdict == one
    assert found[f"{TWO_PROCESSES}: tags/s ≥ 2 x regsync"].verdict == two
    assert "regsync 100" in found[f"{ONE_PROCESS}: tags/s ≥ 1 x regsync"].detail


def test_the_table_marks_noisy_walls() -> None:
    shown = report.table(Figures([sample("crane", 1.0, noise=0.5), sample(COLD, 2.0)]))
    assert "~1.00" in shown
    assert "sealift cold" in shown


def test_the_page_is_written_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / report.PAGE
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(tmp_path, Figures([sample("crane", 1.0)]), [], "plain HTTP")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| crane | 1.00 |" in text


def test_the_chart_is_xml_with_a_bar_for_everybody() -> None:
    drawn = ET.fromstring(chart(Figures([sample("crane", 1.0), sample("a < b", 2.0)])))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 2


def test_the_lists_that_name_referrers_may_be_read_besides_the_distinct_bytes() -> None:
    images = multi_arch(indexes=1)
    allowed = images.content_bytes + 600
    text = "bytes read at the source ≤ 1 x distinct"
    for read, verdict in ((allowed, "pass"), (allowed + 1, "short")):
        figures = Figures([sample(FLEET, 1.0, set="C", targets=3, source_bytes=read)])
        (bar,) = (one for one in bars(figures, {"C": images}, tls=False) if one.text == text)
        assert bar.verdict == verdict
