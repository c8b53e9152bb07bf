"""Bearer tokens: what they are good for and how long (distribution's ``spec/auth/scope.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

Grants = Mapping[str, frozenset[str]]
"""Actions by resource, as ``repository:library/alpine`` -> pull, push."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token was asked for; ``account`` is empty for anonymous access."""

    realm: str
    service: str
    account: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the moment until which to send it, on the clock of ``time.monotonic``."""

    value: str = field(repr=False)
    usable_until: float

    @property
    def header(self) -> str:
        return f"Bearer {self.value}"


@dataclass(slots=True)
class TokenCache:
    """The tokens of one registry. Not thread-safe: its owner holds a lock around every call."""

    _tokens: dict[TokenKey, Token] = field(default_factory=dict)

    def find(self, key: TokenKey, now: float) -> Token | None:
        """A token for exactly ``key`` or for more; None if every such token is about to expire."""
        if (token := self._tokens.get(key)) and now < token.usable_until:
            return token
        wanted = grants(key.scopes)
        for held, token in self._tokens.items():
            same_place = (held.realm, held.service, held.account) == (key.realm, key.service, key.account)
            if same_place and now < token.usable_until and covers(grants(held.scopes), wanted):
                self._tokens[key] = token
                return token
        return None

    def add(self, key: TokenKey, token: Token, now: float) -> None:
        """Keep ``token`` and forget those that have expired: the cache stays as small as what is in use."""
        self._tokens = {k: t for k, t in self._tokens.items() if now < t.usable_until}
        self._tokens[key] = token

    def drop(self, header: str) -> None:
        """Forget the token that was sent as ``header``, for whatever it was used."""
        self._tokens = {k: t for k, t in self._tokens.items() if t.header != header}


def grants(scopes: tuple[str, ...]) -> Grants:
    """Scopes as actions by resource; a name may hold colons (``repository:host:5000/a:pull``)."""
    found: dict[str, frozenset[str]] = {}
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        found[resource] = found.get(resource, frozenset()) | frozenset(actions.split(","))
    return found


def covers(held: Grants, wanted: Grants) -> bool:
    """Whether a token asked for with ``held`` may serve ``wanted``."""
    return all(actions <= held.get(resource, frozenset()) for resource, actions in wanted.items())


@lru_cache(maxsize=4096)
def subject(scopes: tuple[str, ...]) -> str:
    """The repository that a request is about: of a mount's two the one that is written to."""
    asked = grants(scopes)
    repositories = [resource for resource in asked if resource.startswith("repository:")]
    return max(repositories, key=lambda name: "push" in asked[name], default="").partition(":")[2]


def rights(scopes: tuple[str, ...]) -> str:
    """What ``scopes`` ask for, in words: ``pull, push a/b and pull c/d``."""
    asked = grants(scopes)
    parts = (f"{', '.join(sorted(asked[name]))} {name.partition(':')[2]}" for name in asked)
    return " and ".join(parts) or "use the registry"
