"""What can go wrong at a registry or an image layout, split by what the caller does next.

RegistryError
├── Transient              worth another attempt
│   ├── Unreachable        ... no connection: refused, unknown host, broken TLS, cut in the middle
│   └── Throttled          ... after ``retry_after_s``
└── Permanent              the same request will fail again
    ├── NotFound           no such repository, tag, manifest or blob
    ├── Unauthorized       the credentials are missing or wrong
    ├── Denied             the credentials are right and the right is missing
    ├── Refused            the registry will not take or give this content: quota, ...
    │   ├── TagImmutable   ... because nobody may move or delete this tag
    │   ├── CannotDelete   ... because it deletes nothing by this API
    │   └── Misconfigured  ... and was not even asked: what is said of how to reach it cannot be used
    ├── DigestMismatch     the bytes are not what their digest or size says
    ├── Unsupported        content that is never copied: schema 1, unknown kinds
    └── Unsafe             the other end asks for what a client must not do (design, section 7)
"""

from __future__ import annotations


class RegistryError(Exception):
    """One failed exchange, naming the end that failed.

    Every field is positional and in ``args``, so that the error survives pickling between processes.
    No field may hold a secret: texts pass :func:`registry.redact.redacted` before they come here.
    """

    def __init__(
        self, end: str, what: str, reason: str, status: int | None = None, code: str | None = None
    ) -> None:
        """Name the end, the content and the answer.

        ``end`` is a registry host or layout folder; ``what`` says which content, as ``repository:tag`` or
        ``repository@digest``; ``status`` and ``code`` are the HTTP answer's.
        """
        super().__init__(end, what, reason, status, code)
        self.end, self.what, self.reason, self.status, self.code = end, what, reason, status, code

    def __str__(self) -> str:
        answer = " ".join(str(part) for part in (self.status, self.code) if part is not None)
        place = f"{self.end}/{self.what}" if self.what else self.end
        return f"{place}: {self.reason}" + (f" ({answer})" if answer else "")


class Transient(RegistryError):
    """Another attempt may succeed: the registry is unwell or the connection broke."""


class Unreachable(Transient):
    """There was no connection, or it was cut."""


class Throttled(Transient):
    """The registry asks for patience; ``retry_after_s`` may be hours, None if it did not say."""

    def __init__(
        self,
        end: str,
        what: str,
        reason: str,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(end, what, reason, status, code)
        self.args = (*self.args, retry_after_s)
        self.retry_after_s = retry_after_s


class Permanent(RegistryError):
    """The same request will fail again."""


class NotFound(Permanent):
    """The repository, tag, manifest or blob is not there."""


class Unauthorized(Permanent):
    """Credentials are missing or wrong."""


class Denied(Permanent):
    """The credentials are known, the right is not theirs."""


class Refused(Permanent):
    """The registry answered that it will not do it, and why."""


class TagImmutable(Refused):
    """The registry, or a rule of its operator, lets nobody move or delete this tag."""


class CannotDelete(Refused):
    """The registry deletes no tags by the registry protocol, at least not as it is set up."""


class Misconfigured(Refused):
    """Our own terms for the registry cannot be used, so nobody has asked it."""


class DigestMismatch(Permanent):
    """The bytes that came are not the bytes that were promised."""


class Unsupported(Permanent):
    """Content of a kind that is never copied."""


class Unsafe(Permanent):
    """The other end asks for something that would give secrets or access away."""
