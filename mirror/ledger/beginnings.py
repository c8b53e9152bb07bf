"""How a run begins: at once, by joining one that is under way, or later, from a plan.

A plan is a run in the state ``planned``: its batches are cut and written, none is opened. It expires by
itself, and a later one on the same terms takes its place, so that plans stay few.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from mirror.ledger import scripts, verify_scripts
from mirror.ledger.keys import Client, Keys
from mirror.ledger.passes import pass_of
from mirror.ledger.sources import MOST_NAMED, Staged
from mirror.plan import cut
from mirror.spec import Lane, MirrorSpec

KEEP_PLAN_S = 7 * 86400
"""How long a plan can be begun: what it knows of the source's list grows old."""
PORTION = 1000
_EPOCH = 1_700_000_000
_PLANNED = "planned"


class Proposal(NamedTuple):
    """A run that is about to be created: its id, and the keys and words of CREATE_RUN."""

    run: str
    keys: list[str]
    words: list[Any]


class Beginnings:
    """One fleet's way to new runs."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._create = client.register_script(scripts.CREATE_RUN)
        self._begin = client.register_script(scripts.BEGIN_PLAN)
        self._no_repair = client.register_script(verify_scripts.NO_REPAIR)

    def create(self, spec: MirrorSpec, lane: Lane, staged: Staged | None) -> str:
        """An open run; its id sorts by time."""
        return self._created(spec, lane, "open", staged, ())[0]

    def create_or_join(self, spec: MirrorSpec, lane: Lane, staged: Staged | None) -> tuple[str, bool]:
        """The same, unless one on the very same terms is open: then that one; and whether it is new."""
        return self._created(spec, lane, "open", staged, [self._alike(spec, lane)])

    def owes_repair(self, run: str) -> bool:
        """Whether a verifying run has ended whose repair nobody has begun."""
        return bool(self._redis.hget(self._keys.run(run), "repairs") == b"due")

    def repair(self, owing: str, spec: MirrorSpec, lane: Lane, staged: Staged | None) -> str:
        """The run that repairs what ``owing`` has found, as create_or_join; empty where it was begun."""
        alike = [self._alike(spec, lane), self._keys.run(owing)]
        return self._created(spec, lane, "open", staged, alike)[0]

    def no_repair(self, owing: str) -> None:
        """There is nothing that a repair would mend."""
        self._no_repair([self._keys.run(owing), self._keys.open], [self._keys.run_root])

    def plan(self, spec: MirrorSpec, lane: Lane, staged: Staged | None = None) -> str:
        """A planned run, in the place of the plan that there was on the same terms."""
        place = self._alike(spec, f"{lane} {_PLANNED}")
        before: bytes | None = self._redis.get(place)
        if before is not None:
            self.drop(before.decode())
        run, _ = self._created(spec, lane, _PLANNED, staged, ())
        self._redis.set(place, run, ex=KEEP_PLAN_S)
        return run

    def begin(self, run: str, spec: MirrorSpec, lane: Lane) -> str:
        """Open a planned run; its id, or that of an open one on the same terms, which has come first.

        A run that is not planned any more is left as it is.
        """
        if not self._is_planned(run):
            return run
        for batches in self._portions(run):
            pipe = self._redis.pipeline(transaction=False)
            for batch in batches:
                pipe.persist(self._keys.batch(batch))
            pipe.execute()
        keys = self._keys
        names = [keys.run(run), keys.open, keys.queue(run), keys.repositories(run), self._alike(spec, lane)]
        begun: bytes = self._begin(names, [run, keys.run_root, scripts.KEEP_RUN_S])
        return begun.decode()

    def drop(self, run: str, *, failed: bool = False) -> None:
        """Forget a plan, or one whose listing ``failed``; a run that was begun is left as it is."""
        keys = self._keys
        if not self._is_planned(run) and not failed:
            return
        count = int(self._redis.hget(keys.run(run), "batches") or 0)
        self._redis.hdel(keys.run(run), "state")  # whoever begins it now finds no plan
        for indices in cut(range(count), PORTION):
            batches = [f"{run}.{index}" for index in indices]
            self._redis.unlink(*(key(batch) for batch in batches for key in (keys.batch, keys.ended)))
        self._redis.unlink(keys.run(run), keys.queue(run), keys.repositories(run), keys.failures(run))
        self._redis.zrem(keys.runs, run)

    def batches(self, run: str) -> Iterator[str]:
        """The batches of a run that wait to be opened, in their order."""
        for portion in self._portions(run):
            yield from portion

    def _is_planned(self, run: str) -> bool:
        return bool(self._redis.hget(self._keys.run(run), "state") == _PLANNED.encode())

    def _portions(self, run: str) -> Iterator[list[str]]:
        at = 0
        while found := self._redis.lrange(self._keys.queue(run), at, at + PORTION - 1):
            yield [batch.decode() for batch in found]
            at += len(found)

    def _alike(self, spec: MirrorSpec, lane: str) -> str:
        terms = json.dumps([spec.document(), lane], sort_keys=True)
        return self._keys.alike(sha256(terms.encode()).hexdigest())

    def propose(self, spec: MirrorSpec, lane: Lane, *, joins: bool) -> Proposal:
        """What an open run takes, for a script that has CREATE_RUN in it; ``joins``: as create_or_join."""
        return self._proposal(spec, lane, "open", None, [self._alike(spec, lane)] if joins else ())

    def _created(
        self, spec: MirrorSpec, lane: Lane, state: str, staged: Staged | None, alike: Sequence[str]
    ) -> tuple[str, bool]:
        while True:  # an id that another run of this second has is drawn again
            proposal = self._proposal(spec, lane, state, staged, alike)
            answer: bytes | None = self._create(proposal.keys, proposal.words)
            if answer is not None:
                begun = answer.decode()
                return begun, begun == proposal.run

    def _proposal(
        self, spec: MirrorSpec, lane: Lane, state: str, staged: Staged | None, alike: Sequence[str]
    ) -> Proposal:
        fields = {
            "spec": json.dumps(spec.document()),
            "lane": lane,
            "mirror": spec.name,
            "source": spec.source,
            "state": state,
        }
        if spec.is_whole and spec.verifies:
            fields["verifies"] = "1"
        if spec.is_whole and not spec.ad_hoc and not (spec.verification and spec.verification.sample):
            fields["whole"] = "1"
        if spec.verifies and spec.verification and spec.verification.deep:
            fields["deep_pass"] = pass_of(spec)
        if spec.verifies and spec.verification and spec.verification.repairs:
            fields["repairs"] = "wanted"
        if spec.kind in {"verify", "repair", "rollback"}:
            fields["kind"] = spec.kind
        if spec.known_as != spec.name:
            fields["known_as"] = spec.known_as
        if (about := _about(spec, staged)) is not None:
            fields["about"] = "\n".join(about)
        flat = [part for pair in fields.items() for part in pair]
        run = f"{int(time.time()) - _EPOCH:07x}{secrets.token_hex(2)}"
        lists = [self._keys.repositories(run), self._keys.staged(staged.token if staged else "")]
        keys = [self._keys.run(run), self._keys.runs, self._keys.open, *lists, *alike]
        words = [run, self._keys.run_root, scripts.KEEP_RUN_S, KEEP_PLAN_S if state == _PLANNED else 0, *flat]
        return Proposal(run, keys, words)


def _about(spec: MirrorSpec, staged: Staged | None) -> list[str] | None:
    """What a run of some tags or repositories is about, as reports call it; nothing where that is too much.

    None: all that the mirror has. A list that no fleet file has is that, too.
    """
    if not (spec.rest or spec.refs or staged):
        return None
    named = [(spec.rest_of(repository), tag) for repository, tag in staged.named] if staged else []
    named = named or [(spec.rest, tag) for tag, _ in spec.refs] or [(spec.rest, "")]
    labels = [":".join(part for part in pair if part) for pair in named]
    if len(labels) > MOST_NAMED:
        return None if spec.ad_hoc else []
    return labels
