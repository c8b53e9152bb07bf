"""The image the quick start mirrors: a static program that says hello, for linux/amd64 and linux/arm64."""

from __future__ import annotations

import struct

from registry.descriptor import Platform
from registry.images import LINUX_AMD64, LINUX_ARM64, Image, Index, build_image, build_index

_LOAD_AT = 0x400000
_HEADERS = 64 + 56
_MACHINES = {"amd64": 62, "arm64": 183}
_RELEASE = b'NAME="Hello"\nID=hello\nPRETTY_NAME="Hello, a sample image"\n'
_USERS = b"root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"


def hello_index(version: str = "1.0", *, docker: bool = False) -> Index:
    """An index of two images that run; every ``version`` shares its base layer with all others."""
    return build_index((_hello(version, p, docker=docker) for p in (LINUX_AMD64, LINUX_ARM64)), docker=docker)


def hello_program(architecture: str, message: bytes) -> bytes:
    """A static Linux program (ELF64) that prints ``message`` (below 4 KiB): write(1, ...), exit(0)."""
    code = _amd64(message) if architecture == "amd64" else _arm64(message)
    size = _HEADERS + len(code) + len(message)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    machine, entry = _MACHINES[architecture], _LOAD_AT + _HEADERS
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_AT, _LOAD_AT, size, size, 0x1000)
    return ident + header + segment + code + message


def _hello(version: str, platform: Platform, *, docker: bool) -> Image:
    base = build_image({"etc/os-release": _RELEASE, "etc/passwd": _USERS}, platform=platform)
    message = f"Hello from version {version} on {platform}\n".encode()
    return build_image(
        {
            "bin/hello": hello_program(platform.architecture, message),
            "usr/share/hello/version": f"{version}\n".encode(),
        },
        platform=platform,
        docker=docker,
        base=base,
        labels={"org.opencontainers.image.title": "hello", "org.opencontainers.image.version": version},
        entrypoint=("/bin/hello",),
    )


def _amd64(message: bytes) -> bytes:
    tail = b"\xba" + struct.pack("<I", len(message))  # mov edx, length
    tail += b"\x0f\x05"  # syscall: write
    tail += b"\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05"  # mov eax, 60; xor edi, edi; syscall: exit
    head = b"\xb8\x01\x00\x00\x00\xbf\x01\x00\x00\x00"  # mov eax, 1; mov edi, 1
    return head + b"\x48\x8d\x35" + struct.pack("<I", len(tail)) + tail  # lea rsi, [rip + tail]


def _arm64(message: bytes) -> bytes:
    words = (
        0xD2800020,  # mov x0, #1
        0x10000001 | 7 << 5,  # adr x1, the word after this code: seven on
        0xD2800002 | len(message) << 5,  # mov x2, #length
        0xD2800808,  # mov x8, #64: write
        0xD4000001,  # svc #0
        0xD2800000,  # mov x0, #0
        0xD2800BA8,  # mov x8, #93: exit
        0xD4000001,  # svc #0
    )
    return struct.pack(f"<{len(words)}I", *words)
