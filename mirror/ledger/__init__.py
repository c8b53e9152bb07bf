"""The ledger: Sealift's own keys in Redis, the truth about runs; Celery only carries messages.

This package is the only place that knows the keys. Its parts: runs (here) and how they begin
(:mod:`.beginnings`), what they list (:mod:`.sources`), batches and what became of their tags
(:mod:`.batches`), content that is known to be somewhere (:mod:`.content`, :mod:`.proofs`), whose turn it is
(:mod:`.leases`, :mod:`.turns`), what registries still allow (:mod:`.budgets`) and how well they are reached
(:mod:`.probes`), schedules (:mod:`.schedules`), what tags were (:mod:`.history`), how mirrors stand
(:mod:`.standing`), what is told to whom (:mod:`.events`, :mod:`.receivers`), pushes (:mod:`.pushes`), who is
there to work (:mod:`.workforce`) and what is counted (:mod:`.totals`, :mod:`.traffic`, :mod:`.gauges`). A
step that advances a state is one Lua script (:mod:`.scripts` and its neighbours), so it may be asked for
twice.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from mirror.ledger import scripts, wait_scripts
from mirror.ledger.batches import Batches
from mirror.ledger.beginnings import Beginnings
from mirror.ledger.budgets import Budgets
from mirror.ledger.conflicts import Conflicts
from mirror.ledger.content import Content
from mirror.ledger.events import Events
from mirror.ledger.fixed import Fixed
from mirror.ledger.gauges import Gauges
from mirror.ledger.gone import Gone
from mirror.ledger.history import History
from mirror.ledger.keeps import Keeps
from mirror.ledger.keys import Client, Keys
from mirror.ledger.leases import LONGEST_S, TURN_WAIT_S, Lease
from mirror.ledger.pins import Pins
from mirror.ledger.probes import Probes
from mirror.ledger.promises import NotConfirmed, confirmed
from mirror.ledger.proofs import Proofs
from mirror.ledger.pushes import Pushes
from mirror.ledger.questions import Question, begin
from mirror.ledger.receivers import Receivers
from mirror.ledger.remembered import Remembered
from mirror.ledger.reports import report_of
from mirror.ledger.schedules import Schedules
from mirror.ledger.sources import Sources, Staged
from mirror.ledger.standing import Standings
from mirror.ledger.terms import KNOWN_RUNS, Terms
from mirror.ledger.totals import Totals
from mirror.ledger.traffic import Traffic
from mirror.ledger.turns import Turns
from mirror.ledger.values import NewerRun, UnknownRun, View, done_of, is_taken
from mirror.ledger.verified import Verified
from mirror.ledger.workforce import Workforce
from mirror.report import RunReport, TagReport
from mirror.spec import Lane, MirrorSpec

__all__ = ["Ledger", "LedgerError", "NewerRun", "NotConfirmed", "UnknownRun"]

LedgerError = redis.RedisError
"""Redis is away or refuses: nothing can be recorded now."""

FLIPS_KEPT = 10
MOST_DUE = 200
"""Members that one sweep sends on; the next one takes the rest."""
BEHIND_WINDOWS = 32
"""How far a region may be behind the others where none waits for it: bounds what Redis holds of a run."""
LISTING_S = 15
"""After so long it is asked again for a listing that nobody was heard to go on with."""


class Ledger:
    """Runs, and through ``batches``, ``content``, ``sources`` and ``turns`` everything below them."""

    def __init__(
        self,
        client: Client,
        prefix: str = "sealift:",
        replicas: int = 0,
        longest_lease_s: float = LONGEST_S,
        flips_kept: int = FLIPS_KEPT,
    ) -> None:
        """Use ``client``, which must decode no responses.

        ``prefix`` separates fleets that share a server; ``replicas`` must confirm what is promised; a
        lease is renewed for ``longest_lease_s`` at most; of each tag ``flips_kept`` moves are remembered.
        """
        self._replicas = replicas
        self._repositories: dict[str, str] = {}
        self._redis, self.keys = client, Keys(prefix)
        self._terms = Terms(client, self.keys)
        self.beginnings = Beginnings(client, self.keys)
        self.pins = Pins(client, self.keys)
        self.batches = Batches(client, self.keys, Remembered(self.keys, self.pins, self._terms, flips_kept))
        self.history, self.keeps = History(client, self.keys), Keeps(client, self.keys)
        self.conflicts, self.pushes = Conflicts(client, self.keys), Pushes(client, self.keys, self.beginnings)
        self.sources, self.fixed = Sources(client, self.keys), Fixed(client, self.keys)
        self.gone = Gone(client, self.keys, self.history, flips_kept)
        self.content = Content(client, self.keys, longest_lease_s)
        self.budgets, self.gauges = Budgets(client, self.keys), Gauges(client, self.keys)
        self.totals, self.traffic = Totals(client, self.keys), Traffic(client, self.keys)
        self.proofs, self.verified = Proofs(client, self.keys), Verified(client, self.keys)
        self.schedules = Schedules(client, self.keys, self.beginnings)
        self.events, self.receivers = Events(client, self.keys), Receivers(client, self.keys)
        self.turns = Turns(client, self.keys, self.content.leases)
        self.workers, self.probes = Workforce(client, self.keys), Probes(client, self.keys)
        self.standings = Standings(client, self.keys, self._terms)
        script = client.register_script
        self._add = script(scripts.ADD_BATCHES)
        self._fail, self._pause = script(scripts.FAIL_RUN), script(scripts.PAUSE)
        self._trouble, self._note_wait = script(wait_scripts.TROUBLE), script(wait_scripts.NOTE_WAIT)
        self._park, self._due = script(wait_scripts.PARK), script(wait_scripts.TAKE_DUE)

    def ping(self) -> None:
        """Raise LedgerError where the server does not answer."""
        self._redis.ping()

    # -- a run's life ------------------------------------------------------------------------------

    def create_run(self, spec: MirrorSpec, lane: Lane, staged: Staged | None = None) -> str:
        """Write an open run, before any message about it is sent; returns its id (sorts by time).

        ``staged``: the list of references that the run is about, whose digest the spec has.
        """
        run = self.beginnings.create(spec, lane, staged)
        self._terms.keep(run, json.dumps(spec.document()), lane)
        return run

    def create_or_join_run(
        self, spec: MirrorSpec, lane: Lane, staged: Staged | None = None
    ) -> tuple[str, bool]:
        """The same, unless one on the very same terms is open: then that one; and whether it is new."""
        run, is_new = self.beginnings.create_or_join(spec, lane, staged)
        self._terms.keep(run, json.dumps(spec.document()), lane)
        return run, is_new

    def begin_planned(self, run: str) -> str:
        """Open a run that is planned; its id, or that of one on the same terms that is open already.

        Any other run stays as it is; UnknownRun.
        """
        return self.beginnings.begin(run, *self._terms.of(run))

    def spec(self, run: str) -> MirrorSpec:
        """What the run is about; UnknownRun, NewerRun."""
        return self._terms.of(run)[0]

    def spec_of(self, batch: str, repository: str | None = None) -> MirrorSpec:
        """On what terms the batch is: of a run of many repositories those of its own.

        ``repository``: the batch's, where the caller has read it already.
        """
        spec = self.spec(self.batches.run_of(batch))
        if not spec.is_wildcard:
            return spec
        if repository is None:
            repository = self._repositories.get(batch) or self.batches.repository(batch)
        return spec.of(repository)

    def known_mirror(self, run: str) -> str | None:
        """The name of the run's mirror, if this process has read its terms."""
        return self._terms.known_mirror(run)

    def lane(self, run: str) -> Lane:
        return self._terms.of(run)[1]

    def begin_question(self, targets: Sequence[str], tags: Sequence[str], pinned_of: str = "") -> Question:
        """See :func:`mirror.ledger.questions.begin`."""
        return begin(self._redis, self.keys, self.pins, targets, tags, pinned_of)

    def cursor(self, run: str) -> tuple[str, bool]:
        """The last tag listed (empty at first), and whether the listing is over."""
        document, lane, cursor, listed = self._terms.fields(run, "spec", "lane", "cursor", "listed")
        self._terms.keep(run, document, lane)  # whoever lists needs them next
        return cursor, listed == "1"

    def add_batches(
        self,
        run: str,
        cursor: str,
        following: str,
        batches: Sequence[Sequence[tuple[str, str]]],
        *,
        listed: bool,
        repository: str = "",
        is_through: bool = False,
        repositories: Sequence[str] = (),
    ) -> bool:
        """Append batches of (target tag, source ref) pairs and move the cursor, in one step.

        Of a run of many repositories the batches are of ``repository``, whose turn it is until it
        ``is_through``; ``repositories`` are those that come next.
        False, and nothing is changed, where the cursor is not at ``cursor`` any more (another enumeration
        of this run was faster) or the run is not open.
        """
        flat = [part for tags in batches for part in (json.dumps(list(tags)), len(tags))]
        own = [repository, int(is_through), len(repositories), *repositories]
        return bool(
            self._add(
                [self.keys.run(run), self.keys.queue(run), self.keys.open, self.keys.repositories(run)],
                [run, cursor, following, int(listed), self.keys.batch_root, *own, *flat],
            )
        )

    def open_window(self, run: str, window: int) -> dict[str, list[tuple[str, str]]]:
        """Set further batches going, up to ``window`` in flight; returns those to begin, with their tags."""
        pipe = self._redis.pipeline(transaction=False)
        self._ask_open(pipe, run, window)
        return self._opened(pipe.execute()[0])

    def refill(self, run: str, window: int) -> tuple[dict[str, list[tuple[str, str]]], bool]:
        """The same where room was made; and whether the caller should have the run's list read on.

        It should where the list is not at its end and less than a window waits.
        """
        pipe = self._redis.pipeline(transaction=False)
        self._ask_open(pipe, run, window)
        names = (self.keys.run(run), self.keys.queue(run), self.keys.listing(run))
        pipe.eval(scripts.WANTS_LISTING, len(names), *names, window, LISTING_S)
        opened, wants_listing = pipe.execute()
        return self._opened(opened), bool(wants_listing)

    def _ask_open(self, pipe: Client, run: str, window: int) -> None:
        keys = self.keys
        names = (keys.queue(run), keys.flight(run), keys.open, keys.run(run), keys.behind(run))
        pipe.eval(scripts.OPEN_WINDOW, len(names), *names, window, keys.batch_root, window * BEHIND_WINDOWS)

    def _opened(self, parts: Sequence[bytes]) -> dict[str, list[tuple[str, str]]]:
        """From (batch id, tags, repository) one after the other; whoever opens a batch soon names it."""
        if len(self._repositories) >= KNOWN_RUNS:
            self._repositories.clear()
        ids = [batch.decode() for batch in parts[::3]]
        self._repositories.update(zip(ids, (one.decode() for one in parts[2::3]), strict=True))
        return {
            batch: [(tag, ref) for tag, ref in json.loads(tags)]
            for batch, tags in zip(ids, parts[1::3], strict=True)
        }

    def fail_run(self, run: str, error: str, kind: str) -> bool:
        """End an open run as a whole, with the reason."""
        return self._end(run, "failed", error, kind)

    def cancel_run(self, run: str) -> bool:
        """End an open run: nothing further is started, nothing further is flipped."""
        self._terms.fields(run, "state")
        return self._end(run, "cancelled", "", "")

    def pause_run(self, run: str, *, paused: bool) -> bool:
        """Open no further batch of the run and read its list no further, or do so again.

        What is under way goes on. False where the run has ended or is so already; UnknownRun.
        """
        self._terms.fields(run, "state")
        return bool(self._pause([self.keys.run(run)], [int(paused)]))

    def _end(self, run: str, *words: str) -> bool:
        """Batches that were never begun are looked up for as long as the run."""
        keys = self.keys
        names = [keys.run(run), keys.open, keys.parked, keys.queue(run)]
        return bool(self._fail(names, [run, *words, keys.batch_root]))

    def now(self) -> float:
        """The server's clock in Unix time: the only one that a fleet's machines share."""
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)

    def park(self, member: str, state: str, until: float) -> bool:
        """Let a run or a batch, if it is still in ``state``, wait in the ledger until then."""
        document = self.keys.batch(member) if "." in member else self.keys.run(member)
        return bool(self._park([document, self.keys.open, self.keys.parked], [member, state, until]))

    def take_due(self, older_than_s: float) -> list[str]:
        """Runs and batches whose wait is over or that have not moved for so long; they are the caller's.

        A batch's id holds a dot, a run's does not.
        """
        taken = self._due([self.keys.open, self.keys.parked], [older_than_s, MOST_DUE])
        return [member.decode() for member in taken]

    def trouble(self, member: str, first_s: float, longest_s: float) -> tuple[float, float]:
        """Note a transient failure of a run or batch: (since when it has trouble, when to try again).

        Pauses double from ``first_s`` to ``longest_s``; failures within a pause are the same trouble.
        """
        document = self.keys.batch(member) if "." in member else self.keys.run(member)
        since, until = self._trouble([document], [first_s, longest_s])
        return float(since), float(until)

    def note_wait(self, member: str, reason: str, until: float) -> None:
        """Keep for the run's report what one of its members waits for, and until when: the longest wait."""
        run = member.partition(".")[0]
        self._note_wait([self.keys.run(run)], [member, reason, f"{until:.0f}"])

    def confirm(self, on: Client | None = None) -> list[Any]:
        """Send what was put ``on`` a :meth:`together`; the answers, once it would survive the server.

        One exchange, on one connection: what was written before may have gone to a primary that is gone.

        Raises:
            NotConfirmed: it would have been confirmed and was not in time.
            LedgerError: Redis is away or refuses.
        """
        pipe = self.together() if on is None else on
        return confirmed(pipe, self.keys.confirmed, self._replicas)

    def confirm_runs(self, runs: Sequence[str]) -> None:
        """Return when runs that were created would survive the server; LedgerError also where one has not."""
        on = self.together()
        for run in runs:
            on.exists(self.keys.run(run))
        for run, exists in zip(runs, self.confirm(on), strict=True):
            if not exists:
                raise redis.ConnectionError(f"the Redis that has taken over lacks run {run}; start it again")

    # -- steps of batches --------------------------------------------------------------------------

    def take_view(self, place: str, batch: str) -> tuple[Lease, View] | None:
        """The lease of the batch at ``place``, and the batch as it is then; None: another has the lease."""
        return self.content.leases.take_with(
            place, batch, lambda key, token: self.batches.view_with(batch, key, token)
        )

    @contextlib.contextmanager
    def deciding(self, batch: str) -> Iterator[View]:
        """Wait for the turn at deciding what the batch does next; the batch as it is then."""
        while (taken := self.take_view("decide", batch)) is None:
            time.sleep(TURN_WAIT_S)
        lease, view = taken
        try:
            yield view
        finally:
            self.content.leases.release(lease)

    def together(self) -> Client:
        """What is put on this is sent in one exchange, in its order, when it is executed."""
        return self._redis.pipeline(transaction=False)

    def regions_left(self, run: str) -> set[str]:
        """Regions that have a step to take of what is listed so far: now, or with batches not begun.

        Two exchanges; they cost as much as there are batches in flight, however long the list is.
        """
        regions, pipe = set(self.spec(run).regions), self._redis.pipeline(transaction=False)
        pipe.llen(self.keys.queue(run)).smembers(self.keys.flight(run))
        queued, flight = pipe.execute()
        if queued or not flight:
            return regions if queued else set()
        for batch in flight:
            pipe.hget(self.keys.batch(batch.decode()), "state").hkeys(self.keys.batch(batch.decode()))
        answers = pipe.execute()
        return {
            region
            for state, names in zip(answers[::2], answers[1::2], strict=True)
            for region in regions
            if state and not is_taken(state.decode(), region, done_of(names))
        }

    # -- reports -----------------------------------------------------------------------------------

    def run_report(self, run: str) -> RunReport:
        """The run as a value, without its tags; UnknownRun."""
        pipe = self._redis.pipeline(transaction=False)
        for key in (self.keys.run, self.keys.progress, self.keys.failures):
            pipe.hgetall(key(run))
        fields, *rest = pipe.execute()
        row = {k.decode(): v.decode() for k, v in fields.items()}
        if not row:
            raise UnknownRun(run)
        spec = self._terms.shown(run, row["spec"], row["lane"])
        extra = self._redis.hgetall(self.keys.extra_tags(run)) if spec.verifies else {}
        progress, failures = rest
        return report_of(run, row, spec, progress, failures, extra)

    def runs(self, limit: int = 20) -> list[RunReport]:
        """The last runs, newest first."""
        ids = [member.decode() for member in self._redis.zrevrange(self.keys.runs, 0, limit - 1)]
        return [self.run_report(run) for run in ids if self._redis.exists(self.keys.run(run))]

    def tag_reports(self, run: str) -> Iterator[TagReport]:
        """Every tag of the run in the order of the listing, read batch by batch; UnknownRun."""
        (count,) = self._terms.fields(run, "batches")
        for index in range(int(count)):
            batch = f"{run}.{index}"
            yield from self.batches.tag_reports(batch, self.spec_of(batch))
