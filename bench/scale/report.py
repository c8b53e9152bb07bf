"""Figures as text, and the part of docs/scale.md that is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.bars import Verdict
from bench.report import machine_terms, replace_between
from bench.scale import figures
from bench.scale.keyspace import Kind
from bench.scale.server import NEVER_EMPTY, WINDOW_S
from bench.scale.trial import Outcome, Phase

PAGE = "scale.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
MOST_CONCLUDED_BYTES = 600
MOST_HISTORY_BYTES = 300
MOST_REPEATED = 0.01
MOST_GROWTH = 1.1
DAY_S = 86400
OWN = 2
"""One message that has the list read on, and a sweep."""
Bar = tuple[Verdict, str, str]
"""(verdict, what is asked, what was measured)."""


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Everything that is said of measurements: a part for each, and before them one beside the other."""
    beside = ["### By size", "", *_sizes(outcomes), ""] if len(outcomes) > 1 else []
    parts = (line for outcome in outcomes for line in ("", *_part(outcome)))
    return "\n".join([*beside, *parts]).strip()


def _part(outcome: Outcome) -> Iterator[str]:
    yield from (
        f"### {_title(outcome)}",
        "",
        _head(outcome),
        "",
        "| | what is asked | measured |",
        "|---|---|---|",
    )
    for verdict, asked, measured in bars(outcome):
        yield f"| {verdict} | {asked} | {measured} |"
    for table in (_work, _requests, _memory):
        yield ""
        yield from table(outcome)


def _title(outcome: Outcome) -> str:
    held = outcome.shape.size.one_new_in
    return f"{outcome.tags:,} tags" + (f", one in {held} new" if held > 1 else "")


def write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Replace what stands between the marks of the page."""
    replace_between(folder / PAGE, BEGIN, END, markdown(outcomes))


def bars(outcome: Outcome) -> list[Bar]:
    """What is asked of a backfill of this size, as far as it was measured."""
    judged = [
        _concluded_bar(outcome),
        _ends_bar(outcome),
        _history_bar(outcome),
        _flat_bar(outcome),
        _window_bar(outcome),
    ]
    judged += [_budget_bar(outcome), *_repeated_bars(outcome), *_again_bars(outcome)]
    return judged


def _concluded_bar(outcome: Outcome) -> Bar:
    each = figures.bytes_of(outcome.kinds, figures.CONCLUDED) / outcome.tags
    asked = f"Redis keeps ≤ {MOST_CONCLUDED_BYTES} bytes of a concluded tag"
    return _verdict(each <= MOST_CONCLUDED_BYTES), asked, f"{each:.0f} bytes"


def _ends_bar(outcome: Outcome) -> Bar:
    endless = [kind for kind in outcome.kinds if kind.longest_s < 0 and kind.name not in figures.LASTING]
    named = ", ".join(f"{kind.name} {kind.bytes / outcome.tags:.0f} bytes a tag" for kind in endless)
    small = all(kind.bytes < outcome.tags for kind in endless)
    return _verdict(small), "and all of it has an end", f"without one: {named or 'nothing'}"


def _history_bar(outcome: Outcome) -> Bar:
    each = figures.bytes_of(outcome.kinds, figures.LASTING) / outcome.tags
    asked = f"but its history: ≤ {MOST_HISTORY_BYTES} bytes of a tag that moved once"
    return _verdict(each <= MOST_HISTORY_BYTES), asked, f"{each:.0f} bytes a tag"


def _flat_bar(outcome: Outcome) -> Bar:
    early, late = (figures.worker_bytes(figures.copies(outcome), share) for share in (0.1, 1.0))
    asked = "memory of whoever lists and copies does not grow"
    measured = f"largest process: {_mib(early)} MiB after a tenth of the tags, {_mib(late)} at the end"
    return _verdict(late <= early * MOST_GROWTH), asked, measured


def _window_bar(outcome: Outcome) -> Bar:
    flying, messages = figures.most_in_flight(outcome.phases), figures.most_messages(outcome.phases)
    ending = outcome.shape.processes * outcome.shape.regions
    left = ending if outcome.plan.crash else 0
    asked = (
        f"messages in Redis: at most the window's {outcome.window} batches, one that each process is about "
        f"to acknowledge ({ending}), those that killed ones had taken ({left}), {OWN} of the fleet's own"
    )
    holds = flying <= outcome.window and messages <= outcome.window + ending + left + OWN
    return _verdict(holds), asked, f"at most {flying} batches in flight, {messages} messages"


def _budget_bar(outcome: Outcome) -> Bar:
    last = outcome.phases[-1]
    overdrawn, plan = last.counts[0]["overdrawn"], outcome.plan
    measured = f"{overdrawn} of {figures.pulls(last)} pulls were refused"
    if plan.moved_pulls < NEVER_EMPTY and (found := figures.named(outcome, "moved")):
        number = figures.pulls(found[0]) - figures.pulls(found[1])
        measured += f"; the last {number} with {plan.moved_pulls} allowed in {WINDOW_S} s"
    return _verdict(overdrawn == 0), "the source's budget is never overdrawn", measured


def _repeated_bars(outcome: Outcome) -> Iterator[Bar]:
    phases = figures.copies(outcome)
    if len(phases) == 1:
        return
    again = figures.repeated(phases[-1])
    total = sum(sum(asked.values()) for asked in figures.asked(phases[-1]))
    share = sum(again.values()) / total
    details = ", ".join(f"{number} {name}" for name, number in again.items())
    asked = f"killed half-way, Redis too, and resumed: under {MOST_REPEATED:.0%} of the work repeated"
    yield _verdict(share < MOST_REPEATED), asked, f"{share:.2%} of {total} requests ({details or 'none'})"


def _again_bars(outcome: Outcome) -> Iterator[Bar]:
    found = figures.named(outcome, "again")
    if found is None:
        return
    source, targets = figures.asked(*found)
    looks = source["HEAD manifests"], targets["HEAD tag"] / outcome.shape.targets
    others = sum(source.values()) + sum(targets.values()) - source["HEAD manifests"] - targets["HEAD tag"]
    lists = source["GET tags"] + source["GET catalog"]
    measured = f"{looks[0]} and {looks[1]:.0f} HEAD, {lists} pages of lists, {others - lists} others"
    asked = "an unchanged run again: at most one HEAD for each tag and registry"
    yield _verdict(max(looks) <= outcome.tags and others == lists), asked, measured


def _head(outcome: Outcome) -> str:
    shape, size = outcome.shape, outcome.shape.size
    held = f", which hold all repositories but one in {size.one_new_in}" if size.one_new_in > 1 else ""
    return (
        f"{outcome.tags:,} tags in {size.repositories:,} repositories, {size.tags_per_image} tags an image, "
        f"to {shape.targets} targets{held}; regions: {shape.regions}, each with {shape.processes} processes; "
        f"{machine_terms()}."
    )


def _work(outcome: Outcome) -> Iterator[str]:
    yield "| | tags | wall s | tags/s | CPU ms a tag: workers | Redis | registries |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for phase in outcome.phases:
        each = (
            1000 * seconds / max(phase.tags, 1)
            for seconds in (phase.fleet_cpu_s - phase.redis_cpu_s, phase.redis_cpu_s, phase.registries_cpu_s)
        )
        cells = " | ".join(f"{number:.2f}" for number in each)
        rate = figures.rate([phase])
        yield f"| {phase.name} | {phase.tags:,} | {phase.wall_s:.1f} | {rate:.0f} | {cells} |"


def _requests(outcome: Outcome) -> Iterator[str]:
    yield "| requests a tag | source | each target |"
    yield "|---|---:|---:|"
    last = figures.copies(outcome)[-1]
    yield _request_row("copied", last, None, outcome)
    if (found := figures.named(outcome, "again")) is not None:
        yield _request_row("again", *found, outcome)


def _request_row(name: str, phase: Phase, before: Phase | None, outcome: Outcome) -> str:
    source, targets = figures.asked(phase, before)
    each = sum(targets.values()) / outcome.shape.targets
    return f"| {name} | {sum(source.values()) / outcome.tags:.2f} | {each / outcome.tags:.2f} |"


def _memory(outcome: Outcome) -> Iterator[str]:
    yield "| in Redis | keys | bytes a tag | kept |"
    yield "|---|---:|---:|---|"
    for kind in outcome.kinds:
        if kind.bytes >= outcome.tags:
            each = kind.bytes / outcome.tags
            yield f"| {kind.name} | {kind.keys:,} | {each:.0f} | {_kept(kind)} |"
    yield ""
    yield "| | batches | bytes a tag |"
    yield "|---|---:|---:|"
    for state, held in outcome.under_way.items():
        yield f"| {state} | {held.batches} | {held.bytes / max(held.tags, 1):.0f} |"
    concluded = figures.bytes_of(outcome.kinds, figures.CONCLUDED) / outcome.tags
    yield f"| concluded | all | {concluded:.0f} |"


def _sizes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "| | repositories | copied/s | again/s | Redis: bytes a concluded tag | of all a tag | back |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for one in outcomes:
        found = figures.named(one, "again")
        concluded = figures.bytes_of(one.kinds, figures.CONCLUDED) / one.tags
        cells = (
            _title(one),
            f"{one.shape.size.repositories:,}",
            f"{figures.rate(figures.copies(one)):.0f}",
            f"{figures.rate(found[:1]):.0f}" if found else "",
            f"{concluded:.0f}",
            f"{(one.full_bytes - one.empty_bytes) / one.tags:.0f}",
            f"{one.redis_comeback_s:.1f}",
        )
        yield f"| {' | '.join(cells)} |"


def _kept(kind: Kind) -> str:
    if kind.longest_s < 0:
        return "for good"
    if kind.longest_s > DAY_S:
        return f"{-(-kind.longest_s // DAY_S)} days"
    hours, seconds = divmod(kind.longest_s, 3600)
    return f"{hours + 1} h" if hours else f"{seconds} s"


def _verdict(holds: bool) -> Verdict:  # noqa: FBT001 - the only thing there is to say
    return "pass" if holds else "short"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f}"


__all__: Sequence[str] = ("bars", "markdown", "write")
