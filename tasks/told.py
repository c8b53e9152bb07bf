"""What people who watch Flower are told about a task: how far it is, and how its batch ended.

Said in results that nothing reads. A failed tag fails no task, so the words FAILED and the reason say it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mirror.ledger.batches import View
from registry.redact import redacted

FAILED = "failed: "
"""How the result of a task begins whose batch has tags that failed; Flower's page shows it as a failure."""
MOST = 300
"""Characters: Celery cuts results off at some length, and a row has no room for more."""
_BAD = frozenset({"failed", "split", "returned"})


def progress(totals: Mapping[str, int]) -> str:
    """``blob 3 of 20 · 12 of 40 MB copied``; what is in a target already counts as a blob that is done."""
    copied, planned = (round(totals.get(name, 0) / 1e6) for name in ("copied_bytes", "planned_bytes"))
    done = sum(totals.get(f"{how}_blobs", 0) for how in ("copied", "mounted", "present"))
    blobs = totals.get("planned_blobs", 0)
    told = f"{copied} of {planned} MB copied" if planned else f"{copied} MB copied"
    return f"blob {min(done, blobs)} of {blobs} · {told}" if blobs else told


def ending(ended: View) -> str:
    """``3 updated, 1 current``, or what failed first and why.

    Counted are tags in targets; one that could not be resolved counts once.
    """
    missing = [(one.tag, "", one.reason) for one in ended.resolved if one.descriptor is None]
    bad = [(tag, target, one.reason) for (tag, target), one in ended.outcomes.items() if one.state in _BAD]
    states = Counter(one.state for one in ended.outcomes.values())
    if missing:
        states["failed"] += len(missing)
    counts = ", ".join(f"{number} {state}" for state, number in states.most_common())
    if not missing and not bad:
        return counts
    causes = [one for one in bad if ended.outcomes[one[0], one[1]].state == "failed"]  # others follow
    tag, target, reason = (missing + causes + bad)[0]
    place = f"{target}:{tag}" if target else tag
    shown = reason if place in reason else f"{place}: {reason}"
    return redacted(f"{FAILED}{shown} ({counts})")[:MOST]
