"""What became of it: the documents that ``--json`` prints, as the few values that a workflow needs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from workers.cli.exits import Exit

FINE = frozenset({"current", "updated"})
_RIGHTS = (
    "GITHUB_TOKEN writes to ghcr.io only with `permissions: {packages: write}` in the job, and only packages "
    "of this repository's owner that are linked to this repository or give it the role Write; for other "
    "owners log in with a personal access token that has write:packages"
)
_LOGIN = "log in to {host} by docker/login-action in a step before this one"


@dataclass(frozen=True, slots=True)
class Row:
    """One tag in one target."""

    tag: str
    digest: str
    target: str
    """``HOST/REPOSITORY``, or a folder's."""
    state: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Why some tags failed, or the whole."""

    reason: str
    kinds: tuple[str, ...] = ()
    count: int = 0
    examples: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """What helps in a workflow; empty where the reason says it all."""
        host = self.reason.partition("/")[0]
        if "Denied" in self.kinds and host == "ghcr.io":
            return _RIGHTS
        return _LOGIN.format(host=host) if "Unauthorized" in self.kinds else ""


@dataclass(frozen=True, slots=True)
class Result:
    """``state``: a run's, or ``submitted``, ``unfinished``, ``error``; the worst of several runs."""

    code: int
    state: str
    runs: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    faults: tuple[Fault, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    """Tags by their state."""
    is_whole: bool = True
    """Whether there is a row for every tag; those of a large run are not in its document."""

    @property
    def digests(self) -> dict[str, str]:
        """By the reference in its target, of what is as it should be there; none where not all is known."""
        if not self.is_whole:
            return {}
        return {
            f"{row.target}:{row.tag}": row.digest for row in self.rows if row.digest and row.state in FINE
        }

    def outputs(self, report: str) -> dict[str, str]:
        """By the names that action.yml gives them."""
        digests = self.digests
        is_one = self.code == Exit.DONE and len(set(digests.values())) == 1
        return {
            "run": " ".join(self.runs),
            "state": self.state,
            "digest": next(iter(digests.values())) if is_one else "",
            "digests": json.dumps(digests),
            "counts": json.dumps(self.counts),
            "updated": str(self.counts.get("updated", 0)),
            "failed": str(self.counts.get("failed", 0)),
            "exit-code": str(self.code),
            "report": report,
        }


def stopped(message: str, code: int, runs: tuple[str, ...] = ()) -> Result:
    """It did not come to a run's end, for this reason."""
    state = "unfinished" if code == Exit.UNFINISHED else "error"
    return Result(code, state, runs, faults=(Fault(message),))


def result_of(documents: list[dict[str, Any]], code: int) -> Result:
    """Of what the commands printed, each one document; ``code`` is the worst of theirs."""
    runs = [run for document in documents for run in document.get("runs", ())]
    names = tuple(dict.fromkeys(run["run"] for run in runs))
    stops = [stopped(str(document["error"]), code, names) for document in documents if "error" in document]
    ended = [run for run in runs if "state" in run]
    if not ended:
        return stops[0] if stops else Result(code, "error" if code else "submitted", names)
    counts: Counter[str] = Counter()
    for run in ended:
        counts.update(run["states"])
    return Result(
        code,
        stops[0].state if stops else _worst([run["state"] for run in ended]),
        names,
        tuple(row for run in ended for row in _rows(run)),
        (
            *(fault for stop in stops for fault in stop.faults),
            *(fault for run in ended for fault in _faults(run)),
        ),
        dict(counts),
        all(run["tag_reports"] is not None for run in ended),
    )


def _worst(states: list[str]) -> str:
    return next((state for state in states if state != "done"), "done")


def _rows(run: dict[str, Any]) -> list[Row]:
    return [
        Row(tag["tag"], tag["digest"] or "", target["repository"], target["state"])
        for tag in run["tag_reports"] or ()
        for target in tag["targets"]
    ]


def _faults(run: dict[str, Any]) -> list[Fault]:
    whole = [Fault(run["error"], (run["error_kind"],))] if run["error"] else []
    return [
        *whole,
        *(
            Fault(one["reason"], tuple(one["kinds"]), one["count"], tuple(one["examples"]))
            for one in run["failures"]
        ),
    ]
