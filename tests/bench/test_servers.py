"""Access logs, read for what a copy cost both ends."""

from __future__ import annotations

from bench.servers import PROBE, Traffic, parse_log

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def logged(method: str, path: str, status: int = 200, sent: int = 0) -> str:
    return (
        f'127.0.0.1 - - [24/Nov/2026:07:00:00 +0000] "{method} {path} HTTP/1.1" {status} {sent} "" "tool/1"\n'
    )


def traffic(*lines: str) -> Traffic:
    return Traffic(parse_log("".join(lines)))


def test_reads_are_counted_in_bytes_and_repeated_ones_by_digest() -> None:
    seen = traffic(
        logged("GET", f"/v2/a/blobs/{ONE}", sent=10),
        logged("GET", f"/v2/b/blobs/{ONE}", sent=10),
        logged("GET", f"/v2/a/blobs/{TWO}", 404, sent=99),
        logged("GET", "/v2/a/manifests/v1", sent=5),
        logged("GET", "/v2/a/manifests/v1", sent=5),
        logged("GET", "/v2/a/tags/list?n=1000", sent=7),
    )
    assert seen.read_bytes == 30
    assert seen.repeated_reads == 1
    assert seen.manifest_reads == 2
    assert len(seen.requests) == 6


def test_what_was_written_is_what_was_stored() -> None:
    escaped = ONE.replace(":", "%3A")
    seen = traffic(
        logged("POST", "/v2/a/blobs/uploads/", 202),
        logged("PUT", f"/v2/a/blobs/uploads/u-1?_state=x&digest={escaped}", 201),
        logged("PUT", f"/v2/a/blobs/uploads/u-2?_state=x&digest={TWO}", 400),
        logged("POST", f"/v2/b/blobs/uploads/?mount={ONE}&from=a", 201),
    )
    assert seen.written_bytes({ONE: 100, TWO: 1000}) == 100


def test_a_manifest_read_twice_is_one_read_too_many_also_by_tag() -> None:
    tag, digest = "/v2/a/manifests/v1", f"/v2/a/manifests/{ONE}"
    seen = traffic(*(logged("GET", path) for path in (tag, tag, digest)), logged("HEAD", tag))
    assert seen.repeated_manifest_reads == 1


def test_our_own_questions_are_left_out() -> None:
    assert not traffic(logged("GET", f"{PROBE}7"), "starting up\n").requests


def test_traffic_of_several_registries_adds_up() -> None:
    both = traffic(logged("HEAD", "/v2/a/manifests/v1")) + traffic(logged("PUT", "/v2/a/manifests/v1", 201))
    assert both.methods == {"HEAD": 1, "PUT": 1}
