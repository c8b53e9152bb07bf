"""Statuses of fleets that nobody has, for the page: one with something of everything, and very large ones."""

from __future__ import annotations

from hashlib import sha256

from mirror.status.values import (
    Checked,
    Day,
    Held,
    Incident,
    LastRun,
    Limit,
    MirrorStatus,
    OpenRun,
    Place,
    RegistryStatus,
    State,
    Status,
    TagStatus,
    Verified,
    View,
)

NOW = 1_790_000_000.0
DAY = 86400
_USUAL = ("latest", "1.4.2", "1.4.1", "1.4.0", "1.3.9")
HOSTS = ("docker.io", "ghcr.io", "registry.eu.example")
NO_LIMIT = Limit(None, None, None, None, None)


def digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def days(*bad: int) -> tuple[Day, ...]:
    """30 of them; the first two without a probe, those that are ``bad`` half of the time."""
    today = int(NOW // DAY)
    return tuple(
        Day((today - 29 + at) * DAY, None if at < 2 else 0.5 if at in bad else 1.0) for at in range(30)
    )


def view(region: str, standing: str = "up", *bad: int) -> View:
    is_down = standing == "down"
    return View(
        region,
        standing,  # type: ignore[arg-type]  # one of them
        NOW - 1500 if is_down else None,
        "cannot connect: connection refused" if is_down else "",
        NOW - 60,
        0.012 if region == "eu" else 0.095,
        None if is_down else 88e6 if region == "eu" else 24e6,
        0.979 if is_down else 1.0,
        days(*bad),
    )


def registries(*, is_down: bool = True) -> tuple[RegistryStatus, ...]:
    third = "down" if is_down else "up"
    return (
        RegistryStatus(HOSTS[0], (view("eu"), view("us", "up", 9)), Limit(100, 21600, 93, None, None)),
        RegistryStatus(HOSTS[1], (view("eu", "up", 4, 5), view("us")), Limit(None, None, None, 600, None)),
        RegistryStatus(HOSTS[2], (view("eu", "up", 12), view("us", third, 12, 29)), NO_LIMIT),
    )


def places(name: str, checked: Checked | None = None) -> tuple[Place, ...]:
    rows = (("source", ""), ("target", "us"), ("target", "eu"))
    return tuple(
        Place(
            f"{host}/acme/{name}",
            host,
            role,  # type: ignore[arg-type]  # one of them
            region,
            f"docker pull {host}/acme/{name}:latest",
            checked if region == "eu" else None,
        )
        for host, (role, region) in zip(HOSTS, rows, strict=True)
    )


def tag(
    name: str, at: str | None = None, *, signed: bool | None = True, left_out: tuple[str, ...] | None = None
) -> TagStatus:
    own = digest(at or name)
    return TagStatus(name, own, (Held("same", own),) * 3, None, signed, left_out)


def behind(name: str, since: float) -> TagStatus:
    new, old = digest(f"new {name}"), digest(f"old {name}")
    reason = "503 Service Unavailable"
    return TagStatus(
        name, new, (Held("same", new), Held("same", new), Held("different", old, reason)), since, signed=True
    )


def mirror(
    name: str,
    state: State = "in step",
    why: str = "every registry holds the same",
    tags: tuple[TagStatus, ...] = (),
    *,
    has_tags: bool = True,
    **more: object,
) -> MirrorStatus:
    known: dict[str, object] = {
        "two_way": False,
        "places": places(name),
        "tags": tags or tuple(tag(one) for one in _USUAL if has_tags),
        "tags_left": 37,
        "lag_s": None,
        "platforms": (),
        "signatures": True,
        "conflicts": 0,
        "last": LastRun("5b68235e7dd", "done", NOW - 700, NOW - 660, 0, ""),
        "verified": Verified("5b68235e111", NOW - 40000, "done", deep=True),
        "open": (),
    }
    return MirrorStatus(name, state, why, **(known | more))  # type: ignore[arg-type]  # fields by name


def sample() -> Status:
    """Something of everything."""
    lagging = behind("2.1.0", NOW - 4000)
    damaged = TagStatus(
        "3.2.0",
        digest("3"),
        (Held("same", digest("3")), Held("same", digest("3")), Held("missing")),
        signed=True,
    )
    under_way = OpenRun(
        "5b682400abc",
        "mirror",
        "release",
        NOW - 90,
        48,
        31,
        listed=True,
        planned_bytes=912_000_000,
        moved_bytes=530_000_000,
        paused=False,
        waits="",
    )
    bare = TagStatus(
        "3.1.3",
        digest("4"),
        (*(Held("same", digest("4")),) * 2, Held("unsigned", digest("4"), "403 DENIED")),
        signed=True,
    )
    kept = ("linux/amd64", "linux/arm64")
    mirrors = (
        mirror(
            "explorer",
            tags=(tag("latest", left_out=("linux/riscv64",)), tag("1.4.2", signed=False, left_out=())),
            platforms=kept,
        ),
        mirror(
            "web",
            "behind",
            "1 tag moved at the source and not everywhere yet",
            (lagging, tag("2.0.9"), tag("2.0.8")),
            lag_s=4000.0,
            open=(under_way,),
        ),
        mirror(
            "database",
            "differs",
            "verifying found 1 tag missing, different or damaged",
            (damaged, tag("3.1.4"), bare),
            places=places("database", Checked(41, 1, 0, 0, 0, 0, 2)),
            verified=Verified("5b6", NOW - 900, "failed", deep=False),
        ),
        mirror(
            "tools",
            "unknown",
            "no run of the last 7 days is known",
            signatures=False,
            has_tags=False,
            tags_left=0,
            last=None,
            verified=None,
        ),
    )
    incidents = (
        Incident(
            "registry_down/registry.eu.example/us/1",
            NOW - 1500,
            "registry_down",
            "registry.eu.example is down, as seen from us",
            "cannot connect: connection refused",
        ),
        Incident(
            "event/17-0", NOW - 90000, "damage", "database: images are damaged or missing", "1 tag: 3.2.0"
        ),
        Incident(
            "registry_back/docker.io/us/2",
            NOW - 21 * DAY,
            "registry_back",
            "docker.io is back, as seen from us",
            "",
        ),
    )
    return Status(NOW, "Acme image mirrors", mirrors, registries(), incidents)


def large(mirrors: int) -> Status:
    """So many, each with ten tags in three registries, and all at rest."""
    tags = tuple(tag(f"1.{number}.0", f"image {number}") for number in range(10))
    known = tuple(mirror(f"service-{number:03}", tags=tags) for number in range(mirrors))
    return Status(NOW, "Acme image mirrors", known, registries(is_down=False), sample().incidents)
