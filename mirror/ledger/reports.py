"""What the ledger says of a run, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mirror.ledger.failures import failures_of
from mirror.ledger.passes import deep_of
from mirror.ledger.verified import founds_of
from mirror.report import Moved, RegionReport, RunReport
from mirror.spec import MirrorSpec

PROGRESS_FIELDS = (
    "tags_landed",
    "tags_flipped",
    "planned_bytes",
    "copied_bytes",
    "mounted_bytes",
    "present_bytes",
    "copied_blobs",
    "mounted_blobs",
    "present_blobs",
)


def report_of(
    run: str,
    row: Mapping[str, Any],
    spec: MirrorSpec,
    progress: Mapping[bytes, bytes],
    failures: Mapping[bytes, bytes],
    extra: Mapping[bytes, bytes],
) -> RunReport:
    """From the fields of the run's hash, of its progress, its failures and its extra tags."""
    states = {k[2:]: int(v) for k, v in row.items() if k.startswith("n:") and v != "0"}
    found = founds_of(row, extra, spec)
    tags, is_open = int(row["tags"]), row["state"] == "open"
    if pending := tags - sum(states.values()):
        states["pending"] = pending
    return RunReport(
        run=run,
        mirror=spec.name,
        lane=row["lane"],
        state=row["state"],
        source=spec.origin,
        started_s=float(row["started"]),
        finished_s=float(row["finished"]) if "finished" in row else None,
        listed=row["listed"] == "1",
        tags=tags,
        states=states,
        repositories=int(row.get("repositories", "0")) if spec.is_wildcard and not spec.given else None,
        regions=_regions(progress, spec),
        failures=failures_of(failures),
        kind=spec.kind,
        found=found,
        deep=deep_of(row, found) if spec.verifies else None,
        deletions={k[2:]: int(v) for k, v in row.items() if k.startswith("d:") and v != "0"},
        error=row.get("error", ""),
        error_kind=row.get("error_kind", ""),
        is_paused=is_open and "paused" in row,
        waits=row.get("waits", "") if is_open else "",
        waits_until_s=float(row["waits_until"]) if is_open and "waits_until" in row else None,
    )


def _regions(rows: Mapping[bytes, bytes], spec: MirrorSpec) -> tuple[RegionReport, ...]:
    row = {key.decode(): int(value) for key, value in rows.items()}

    def of(region: str) -> RegionReport:
        count = {name: row.get(f"{region}\n{name}", 0) for name in PROGRESS_FIELDS}
        return RegionReport(
            region=region,
            tags_landed=count.pop("tags_landed"),
            tags_flipped=count.pop("tags_flipped"),
            planned_bytes=count.pop("planned_bytes"),
            moved=Moved(**count),
        )

    return tuple(of(region) for region in spec.regions)
