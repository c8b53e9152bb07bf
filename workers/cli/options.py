"""Options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="DIR", help="Folder of the embedded fleet.", show_default=False),
]
FleetFile = Annotated[
    Path | None,
    typer.Option(
        "--fleet-file", metavar="FILE", help="The fleet file; sealift.yaml unless said.", show_default=False
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the whole trace of an unexpected error.")
]
Json = Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Only enqueue, and print the run's id.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.0, help="Wait at most so long, then exit with 5."),
]
All = Annotated[bool, typer.Option("--all", help="Every tag of a long run, not only what went wrong.")]
OneMirror = Annotated[
    str, typer.Argument(metavar="MIRROR", help="A mirror's name; of a wildcard MIRROR/REPOSITORY.")
]
To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="[REGION=]TARGET", help="A repository to write, and the region next to it."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tags", metavar="PATTERN", help="Tags: a glob, 'semver:>=1.2' or 'regex:^v'. Repeatable."),
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="Tags to leave out. Repeatable.")
]
Newest = Annotated[
    int | None, typer.Option("--newest", metavar="N", min=1, help="Only the N newest versions.")
]
Platforms = Annotated[
    list[str] | None,
    typer.Option("--platform", metavar="OS/ARCH", help="Copy only these of an index; it keeps its digest."),
]
Referrers = Annotated[
    bool, typer.Option("--referrers/--no-referrers", help="Signatures, attestations and SBOMs too.")
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE", help="Only the references in it, one a line; - reads stdin."),
]
ListTo = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="[REGION=]PREFIX/*", help="Where those of --from go, without a MIRROR."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what it would do, as plan; --resume RUN begins it.")
]
Resume = Annotated[
    str | None, typer.Option("--resume", metavar="RUN", help="Go on with this run, paused or interrupted.")
]
