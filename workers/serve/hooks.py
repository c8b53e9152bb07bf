"""What is done with a delivery: the sender is checked, what it says is read, runs are asked for. No HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from http.client import REQUEST_TIMEOUT

from kombu.exceptions import OperationalError

from config.environment import secret_of
from config.fleet import Fleet
from config.problems import FleetError
from config.webhooks import Webhook
from mirror.ledger import LedgerError
from mirror.ledger.pushes import Asked
from mirror.spec import MirrorSpec
from tasks.broker import BrokerUnreachable, WrongBroker
from tasks.pushes import Push, Wanted, follow
from tasks.runtime import Runtime
from tasks.schedules import FleetFile
from tasks.terms import host_of
from workers.serve.proofs import Refused, check_body, check_sender, covers_body
from workers.serve.seldom import Seldom
from workers.serve.senders import PERSISTENT, TELL_ALL, Headers, Malformed, Told, few, read
from workers.serve.tally import Result, Tally

logger = logging.getLogger(__name__)

AWAY = (BrokerUnreachable, WrongBroker, LedgerError, OperationalError)
"""Nothing can be recorded now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and one line for whoever looks at the sender's log; empty: no body."""

    status: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """One of the fleet file's webhooks and what else is needed of that file."""

    webhook: Webhook
    place: int
    fleet: Fleet
    wanted: Wanted
    secret: str = field(default="", repr=False)
    """As it was when the sender began: files are read again for each."""

    @property
    def is_unproven(self) -> bool:
        """Whether only the end of the body proves who sends it."""
        return covers_body(self.webhook.kind, self.secret)


class Hooks:
    """The webhooks of a fleet file, which is read again when it changes. Thread-safe."""

    def __init__(self, file: FleetFile, compose: Callable[[], Runtime]) -> None:
        """``compose`` raises BrokerUnreachable while Redis is away; then it is called again later."""
        self._file, self._compose = file, compose
        self._runtime: Runtime | None = None
        self._fleet: Fleet | None = None
        self._known: dict[str, Known] = {}
        self._lock, self._composing = threading.Lock(), threading.Lock()
        self._seldom, self.tally = Seldom(logger), Tally()

    def runtime(self) -> Runtime:
        """Raises what is in AWAY; at once while another thread still waits for Redis."""
        runtime = self._runtime
        if runtime is None:
            if not self._composing.acquire(blocking=False):
                raise BrokerUnreachable("Redis has not answered yet")
            try:
                runtime = self._runtime = self._runtime or self._compose()
            finally:
                self._composing.release()
        return runtime

    def ping(self) -> None:
        """Raises what is in AWAY."""
        self.runtime().ledger.ping()

    def _find(self, name: str) -> Known | None:
        with self._lock:
            fleet = self._file.latest()
            if fleet is not self._fleet:
                wanted = Wanted(fleet)
                self._known = {
                    one.name: Known(one, place, fleet, wanted) for place, one in enumerate(fleet.webhooks)
                }
                self._fleet = fleet
            return self._known.get(name)

    def greet(self, name: str, headers: Headers, in_address: str) -> Known | Answer:
        """The webhook, where the body is worth reading."""
        known = self._find(name)
        if known is None:
            return Answer(404, "no webhook is named so under webhooks: in the fleet file")
        try:
            known = replace(known, secret=secret_of(known.fleet, known.place))
            check_sender(known.webhook.kind, known.secret, headers, in_address)
        except Refused as refused:
            return self._refused(known, refused)
        except FleetError as error:
            return self.unavailable(name, str(error))
        return known

    def deal(self, known: Known, headers: Headers, body: bytes) -> Answer:
        """What the delivery leads to; it is in the ledger once this returns."""
        name, kind = known.webhook.name, known.webhook.kind
        try:
            check_body(kind, known.secret, headers, body, time.time())
            return self._answer(known, read(kind, host_of(known.webhook.host) or "", body, headers))
        except Refused as refused:
            return self._refused(known, refused)
        except Malformed as error:
            return self.malformed(known.webhook, str(error))
        except AWAY as error:
            return self.unavailable(name, str(error))

    def malformed(self, webhook: Webhook, fault: str, status: int = 400) -> Answer:
        """A PERSISTENT sender is let go on, unless (408) it may do better the next time."""
        self.tally.count(webhook.name, "malformed")
        text = f"webhook {webhook.name}: a delivery that cannot be read: {fault}"
        self._seldom.say(f"{webhook.name} malformed", text)
        if webhook.kind in PERSISTENT and status != REQUEST_TIMEOUT:
            return Answer(204)
        return Answer(status, fault)

    def unavailable(self, name: str, why: str) -> Answer:
        """The sender is to come again; nothing is forgotten that was not answered otherwise."""
        self.tally.count(name, "unavailable")
        self._seldom.say(f"{name} unavailable", f"webhook {name}: a delivery is put off: {why}")
        return Answer(503, "nothing can be recorded now; send it again later")

    def _refused(self, known: Known, refused: Refused) -> Answer:
        name = known.webhook.name
        self.tally.count(name, "refused")
        self._seldom.say(f"{name} refused", f"webhook {name}: a delivery is refused: {refused.reason}")
        return Answer(refused.status, refused.reason)

    def _answer(self, known: Known, told: Told) -> Answer:
        answer = self._follow(known, few([push for push in told.pushes if not push.travels]))
        if not told.faults:
            return answer
        self.malformed(known.webhook, told.faults[0])
        left_out = f"{len(told.faults)} cannot be read: {told.faults[0]}"
        return Answer(answer.status, f"{answer.text}\n{left_out}") if answer.text else answer

    def _follow(self, known: Known, told: Sequence[Push]) -> Answer:
        name = known.webhook.name
        of_ours = [push for push in told if known.wanted.knows(push)]
        if not of_ours:
            return self._unknown(known, told)
        rt = self.runtime()
        copies = rt.ledger.pushes.delivered(name, [push.delivery for push in of_ours if push.delivery])
        lines, dealt_with = list[str](), list[str]()
        for push in of_ours:
            if push.delivery in copies:
                self.tally.count(name, "copy")
                continue
            asked = [(spec, follow(rt, spec, push)) for spec in known.wanted.specs(push)]
            lines += self._said(name, push, asked)
            if asked and push.delivery:  # else a fleet file that is put right has to see it come again
                dealt_with.append(push.delivery)
        rt.ledger.pushes.remember(name, dealt_with)
        if not lines:
            return self._nothing(name, "ignored")
        return Answer(202, "\n".join(lines))

    def _said(self, name: str, push: Push, asked: list[tuple[MirrorSpec, Asked]]) -> list[str]:
        """A line for each of a push's runs."""
        lines = list[str]()
        for spec, one in asked:
            self.tally.count(name, one.how)
            if one.how == "ours":
                continue
            what = f"{spec.name} {push.tag}" if spec.refs else spec.name
            lines.append(f"run {one.run} of {what} {one.how}")
            about = {"mirror": spec.name, "run": one.run, "tag": push.tag}
            logger.info("webhook %s: %s was pushed: %s", name, push.repository, one.how, extra=about)
        return lines

    def _unknown(self, known: Known, told: Sequence[Push]) -> Answer:
        """To those that TELL_ALL it is no error."""
        name = known.webhook.name
        if not told:
            return self._nothing(name, "ignored")
        if known.webhook.kind in TELL_ALL:
            return self._nothing(name, "unknown")
        self.tally.count(name, "unknown")
        return Answer(404, f"no mirror reads or writes {told[0].repository}")

    def _nothing(self, name: str, result: Result) -> Answer:
        self.tally.count(name, result)
        return Answer(204)
