"""Apprise, behind one function: a message goes to one address, once, or it is said why it did not.

It is used for its knowledge of services alone: it loads no plugins from disk, reads no configuration, follows
no redirects, tries nothing twice and keeps nothing. Addresses are secrets: no text here repeats one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from config.checks import is_indirect
from config.environment import looked_up
from config.fleet import Fleet
from config.notification import Receiver
from config.problems import FleetError
from mirror.notices import Level, Message, harmless
from registry.redact import HIDDEN, redacted

if TYPE_CHECKING:
    from apprise import NotifyBase

SEND_S = 20.0
"""Longest that one message may take, whatever its receiver does."""
CONNECT_S, READ_S = 10.0, 15.0
ANYWHERE = 4
"""Parts of an address that are so long are hidden wherever they are, shorter ones as words."""
_DELIMITERS = re.compile(r"[/:@?&=,+;#\s]+")
_LONGEST = 200
_MOST_LAYERS = 8
"""Of percent-encoding that are taken off a text to find an address in it."""
_REFUSED = "it was refused"


class NotReached(Exception):
    """A receiver was not told; the text says why, and holds no secret."""


def send(fleet: Fleet, receiver: Receiver, message: Message) -> None:
    """Tell one receiver, in at most SEND_S.

    Raises:
        FleetError: its address cannot be looked up, or is none.
        NotReached: it refuses, or does not answer.
    """
    url = _address(fleet, receiver)
    channel = _opened(fleet, receiver, url)
    import apprise

    herald = apprise.Apprise(asset=channel.asset)
    herald.add(channel)
    done = herald.notify(
        body=message.body,
        title=message.title,
        notify_type=_KINDS[message.level],
        body_format=apprise.NotifyFormat.TEXT,
        interpret_escapes=False,
    )
    if done:
        return
    if done.timeout_count:
        raise NotReached(f"no answer within {SEND_S:.0f} s")
    said = next((entry.message for result in done for entry in result.logs()), _REFUSED)
    raise NotReached(_without_secrets(said, receiver, url))


def check(fleet: Fleet, receiver: Receiver) -> None:
    """Whether its address is one, without sending anything. Raises FleetError."""
    _opened(fleet, receiver, _address(fleet, receiver))


def shown(receiver: Receiver) -> str:
    """Where it is, for people: ``env:NAME``, ``file:PATH``, or the scheme and host of its address."""
    if is_indirect(receiver.to):
        return receiver.to
    return "/".join(receiver.to.split("/")[:3])


def _address(fleet: Fleet, receiver: Receiver) -> str:
    return looked_up(fleet, ("notify", fleet.notify.index(receiver), "to"), receiver.to)


def _opened(fleet: Fleet, receiver: Receiver, url: str) -> NotifyBase:
    where = ("notify", fleet.notify.index(receiver), "to")
    try:
        import apprise
    except ImportError:
        fault = "messages are sent by Apprise, which is not installed: pip install 'sealift[notify]'"
        raise FleetError((fleet.problem(where, fault),)) from None
    asset = apprise.AppriseAsset(
        app_id="Sealift",
        app_desc="Sealift",
        interpret_emojis=False,
        storage_mode="memory",
        allow_templates=False,
        service_timeout=SEND_S,
        async_mode=False,
    )
    with _silenced():
        channel = apprise.Apprise.instantiate(url, asset=asset)
    if channel is None:
        fault = f"what {receiver.to} holds" if is_indirect(receiver.to) else "this"
        remedy = "see https://appriseit.com/services/ (some services need a package of their own)"
        raise FleetError((fleet.problem(where, f"{fault} is no address that Apprise can use; {remedy}"),))
    return _bounded(channel)


@contextmanager
def _silenced() -> Iterator[None]:
    """Apprise logs tokens that it finds to be malformed; what else it says comes back with its results."""
    log = logging.getLogger("apprise")
    if log.propagate:
        log.propagate = False
        log.addHandler(logging.NullHandler())
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def _bounded(channel: Any) -> NotifyBase:
    """Whatever the address's own parameters say; what is too long for a service comes in parts, or cut."""
    import apprise

    if channel.overflow_mode == apprise.OverflowMode.UPSTREAM:
        channel.overflow_mode = apprise.OverflowMode.SPLIT
    channel.retry, channel.optional, channel.redirects = 0, False, False
    channel.socket_connect_timeout = min(channel.socket_connect_timeout, CONNECT_S)
    channel.socket_read_timeout = min(channel.socket_read_timeout, READ_S)
    return cast("NotifyBase", channel)


def _without_secrets(text: str, receiver: Receiver, url: str) -> str:
    """Hides every part of a secret address, in any case and encoding; at times that costs a word more.

    Not its scheme: that is the service, which these texts name.
    """
    if is_indirect(receiver.to):
        parts = filter(None, _DELIMITERS.split(_decoded(url.partition("://")[2])))
        found = "|".join(_pattern(part) for part in sorted(parts, key=len, reverse=True))
        plain = _decoded(text)
        if plain != unquote(plain):
            return _REFUSED
        text = re.sub(found, HIDDEN, plain, flags=re.IGNORECASE) if found else text
    return harmless(redacted(text), _LONGEST)


def _pattern(part: str) -> str:
    found = re.escape(part)
    return found if len(part) >= ANYWHERE else rf"(?<!\w){found}(?!\w)"


def _decoded(text: str) -> str:
    """However often it was percent-encoded, up to _MOST_LAYERS times."""
    for _ in range(_MOST_LAYERS):
        text = unquote(text)
    return text


_KINDS: dict[Level, str] = {name: name for name in ("info", "success", "warning", "failure")}
"""As Apprise calls them."""
