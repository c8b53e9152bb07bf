"""How a command ends: its exit code, and for what went wrong one line that says what to do."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What scripts may build on; a test compares it with the documentation."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    AUTHENTICATION = 4
    UNFINISHED = 5
    BROKER = 6
    INTERRUPTED = 130


class Stop(Exception):
    """End the command with this line on stderr and this exit code; DONE: there was nothing to do."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message, code)
        self.message, self.code = message, code

    def __str__(self) -> str:
        return self.message


def explained(error: BaseException) -> Stop | None:
    """An error that users can do something about, as its line and code; None for a defect of ours.

    Imports late: none of this is needed by a command that succeeds.
    """
    if isinstance(error, Stop):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stop("interrupted", Exit.INTERRUPTED)
    return _by_type(error) or _by_library(error)


def _by_type(error: BaseException) -> Stop | None:
    from config.problems import FleetError
    from mirror.ledger import NewerRun, UnknownRun
    from registry.credentials import CredentialError
    from registry.errors import Denied, RegistryError, Unauthorized
    from registry.reference import MalformedReference
    from tasks.broker import BrokerUnreachable, WrongBroker
    from tasks.producer import NothingFailed, UnderWay
    from tasks.runtime import NoBroker
    from workers.processes import NoServer
    from workers.server import ServerFailed
    from workers.state import StateBusy

    codes: tuple[tuple[tuple[type[BaseException], ...], Exit], ...] = (
        ((NothingFailed,), Exit.DONE),
        ((MalformedReference, UnknownRun, UnderWay), Exit.USAGE),
        (
            (FleetError, CredentialError, StateBusy, NoServer, NoBroker, WrongBroker, NewerRun),
            Exit.CONFIGURATION,
        ),
        ((Unauthorized, Denied), Exit.AUTHENTICATION),
        ((BrokerUnreachable, ServerFailed), Exit.BROKER),
        ((RegistryError,), Exit.FAILED),
    )
    for types, code in codes:
        if isinstance(error, types):
            return Stop(str(error), code)
    return None


def _by_library(error: BaseException) -> Stop | None:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return Stop(settings_error(error), Exit.CONFIGURATION)
    if is_broker_error(error):
        return Stop(f"the broker does not answer: {_one_line(error)}", Exit.BROKER)
    return None


def is_broker_error(error: BaseException) -> bool:
    """Whether Redis, or Celery on its way to it, is what failed.

    By the module's name: only the ledger and the runtime's parts import redis.
    """
    return type(error).__module__.startswith(("redis.exceptions", "kombu.exceptions"))


def settings_error(error: Exception) -> str:
    """What pydantic finds wrong about ``SEALIFT_*`` variables, without the values: they may be secrets."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    found = (
        f"SEALIFT_{str(part['loc'][0]).upper()}: {part['msg']}" if part["loc"] else part["msg"]
        for part in error.errors(include_input=False, include_url=False)
    )
    return "; ".join(found)


def _one_line(error: BaseException) -> str:
    from registry.redact import redacted

    return redacted(" ".join(str(error).split())) or type(error).__name__
