"""Digests as the ledger keeps them where it keeps very many."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def short(digest: str) -> str:
    """A sha256, which nearly all are, in 43 characters; any other as it is."""
    if not digest.startswith("sha256:"):
        return digest
    return urlsafe_b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode().rstrip("=")


def full(text: str) -> str:
    """The inverse."""
    return text if ":" in text else f"sha256:{urlsafe_b64decode(text + '=').hex()}"
