"""The storm: faults drawn from a deck, alone and mixed, while runs are started and tags move."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from redis import RedisError

from mirror.spec import MirrorSpec
from tests.chaos.fleet import ChaosFleet
from tests.chaos.killpoints import KILL_POINTS
from tests.chaos.outages import SEEN_WITHIN_S, Outage, Outages
from tests.chaos.people import People
from tests.chaos.plan import Plan
from tests.chaos.progress import Progress
from tests.chaos.proxy import Fabric
from tests.chaos.receiver import SHARE, Receiver
from tests.chaos.weather import HTTP_FAULTS
from tests.chaos.world import REGIONS, World

CHILD, WORKER, BEAT, PRODUCER = "pool child killed", "worker killed", "beat killed", "producer killed"
VALKEY, TAIL, FULL = "Valkey killed", "Valkey killed, its last writes lost", "Valkey refuses writes"
DOUBLED, DOWN, CUT, FLEET = "messages doubled", "registry down", "region cut off", "whole fleet killed"
MACHINE_FAULTS = (CHILD, WORKER, BEAT, PRODUCER, VALKEY, TAIL, FULL, DOUBLED, DOWN, CUT, FLEET)
CLASSES = (*MACHINE_FAULTS, *KILL_POINTS, *HTTP_FAULTS)
UNSEEN = "a registry that probes are to see"
TICK_S = 0.02
SEEN_EVERY_S = 0.25
"""So often it is asked whether probes have seen something."""
BURSTS = (0.5, 0.3, 0.2)
"""How often a fault comes alone, in twos and in threes."""
STEP_S = 1.5
"""About how long it takes the fleet to get up again."""
PATIENCE_S = 12.0
"""The next blow comes once the fleet has worked, or after this long."""


@dataclass(slots=True, order=True)
class Timer:
    due: float
    number: int
    action: Callable[[], object] = field(compare=False)


class Storm:
    """One storm over one world; ``blow`` runs it from start to the last fault."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        fleet: ChaosFleet,
        fabric: Fabric,
        receiver: Receiver,
        say: Callable[[str], None],
    ) -> None:
        self.plan, self.world, self.fleet, self.fabric, self._say = plan, world, fleet, fabric, say
        self.receiver = receiver
        self.random = Random(plan.seed)
        self.faults: Counter[str] = Counter()
        self.people = People(plan, world, fleet, self._expected_s())
        self.outages = Outages(fleet.ledger, fleet.regions, [one.host for one in fabric.proxies])
        self.written: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        """What had been written when nothing was left to do, and once that was looked at again."""
        self.progress = Progress(fleet.ledger.keys, fleet.client, fleet.folder / "progress.jsonl")
        self._deck = [one for one in (*MACHINE_FAULTS, *KILL_POINTS) for _ in range(plan.each)]
        self.random.shuffle(self._deck)
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._down: set[str] = set()
        self._is_healing = False
        self._begun = time.monotonic()
        self._struck = (0.0, 0, 0)
        self._pause = threading.Event()
        self._faults: dict[str, Callable[[], bool]] = {
            CHILD: self._kill_child,
            WORKER: lambda: self._kill(self.random.choice(self.fleet.regions)),
            BEAT: lambda: self._kill("beat"),
            PRODUCER: self._kill_producer,
            VALKEY: self._kill_valkey,
            TAIL: self._lose_tail,
            FULL: self._fill_valkey,
            DOUBLED: self._double,
            DOWN: self._registry_down,
            CUT: self._cut,
            FLEET: self._kill_fleet,
        }

    # -- the run of it -----------------------------------------------------------------------------

    def blow(self) -> None:
        """Until every fault came up as often as planned, every tag moved, some back, or time is over."""
        self._begun = time.monotonic()
        self.fabric.weather.share = self.plan.share
        if self.plan.long_outage_s:
            self._after(30.0, lambda: self._registry_down(self.plan.long_outage_s))
        self.receiver.share = SHARE
        next_fault, next_word = 1.0, 5.0
        while not self._is_over():
            now = self._elapsed()
            self._tick()
            if now >= next_fault and self._is_worth_it(now):
                for _ in range(self.random.choices((1, 2, 3), BURSTS)[0]):
                    self._strike()
                self._struck = (now, self.fabric.weather.exchanges, self.progress.steps)
                next_fault = now + self.random.expovariate(1 / self.plan.gap_s)
            self.people.push(now)
            if now >= next_word:
                self._tell()
                next_word = now + 10.0
            self._pause.wait(TICK_S)
        self.faults.update(self.fabric.weather.counts)
        self.faults.update(self.fleet.armoury.kills())
        self.faults["messages that came twice"] = self.fleet.armoury.doubled()

    def heal(self) -> None:
        """No more faults; what was switched off is switched on."""
        self._is_healing = True
        self.fleet.armoury.disarm()
        self.receiver.share = 0.0
        while self._timers:
            heapq.heappop(self._timers).action()
        self.fabric.heal()
        self.fleet.armoury.double(on=False)
        self.fleet.look_after()

    def settle(self, timeout_s: float) -> bool:
        """Let open runs end, then one last run of each mirror; whether all of them ended."""
        deadline = time.monotonic() + timeout_s
        self.heal()
        if not self._wait(lambda: not self.progress.open, deadline):
            return False
        if not self._run_each([*self.people.one_way, *self.people.two_way], deadline):
            return False
        before = self.world.written()
        is_over = self._run_each(self.people.two_way, deadline)
        self.written = (before, self.world.written())
        return is_over

    def _run_each(self, specs: list[MirrorSpec], deadline: float) -> bool:
        """One run of each mirror; whether all of them ended."""
        producer = self.fleet.producer
        for spec in specs:
            producer.ask(spec, "release")
        # A run is in the ledger before its producer speaks of it: only a later look can say that it is over.
        begun = self._wait(lambda: producer.running and not producer.waiting, deadline)
        return begun and self._wait(lambda: not self.progress.open, deadline)

    def _wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Whether the condition came to hold at a fresh look at the ledger."""
        while time.monotonic() < deadline:
            self.fleet.look_after()
            with contextlib.suppress(RedisError):
                if self.progress.look(self._elapsed()) and condition():
                    return True
            self._pause.wait(0.1)
        return False

    def _is_over(self) -> bool:
        if self._elapsed() > self.plan.longest_s:
            return True
        counts = {**self.fabric.weather.counts, **self.fleet.armoury.kills()}
        enough = all(counts.get(one, 0) >= self.plan.each for one in (*HTTP_FAULTS, *KILL_POINTS))
        return not self._deck and enough and self.people.are_through() and UNSEEN not in self._down

    def _is_worth_it(self, now: float) -> bool:
        """Whether work was done since the last blow: what lies on the ground cannot be hit."""
        at, exchanges, steps = self._struck
        has_worked = self.fabric.weather.exchanges - exchanges >= self.plan.work
        return (has_worked and self.progress.steps > steps) or now - at > PATIENCE_S

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _expected_s(self) -> float:
        """A guess: a blow, and as long again until something moves."""
        return (len(MACHINE_FAULTS) + len(KILL_POINTS)) * self.plan.each * (self.plan.gap_s + STEP_S)

    def _tick(self) -> None:
        now = self._elapsed()
        while self._timers and self._timers[0].due <= now:
            heapq.heappop(self._timers).action()
        self.fleet.look_after()
        if "valkey" not in self._down:
            with contextlib.suppress(RedisError):
                if self.progress.look(now):
                    self._produce()

    def _produce(self) -> None:
        """One more run where there is room, at most one for each look at the ledger.

        Of two-way mirrors one is always open: a push is in danger while a run of its tag is under way.
        """
        sides = self.progress.open_of([spec.name for spec in self.people.two_way])
        waiting = self.fleet.producer.waiting
        if not sides and not waiting:
            self.people.equalise()
        elif waiting + len(self.progress.open) - sides < self.plan.open_runs:
            self.people.start_some_run()

    def _tell(self) -> None:
        kills, weather = self.fleet.armoury.kills(), self.fabric.weather.counts
        self._say(
            f"{self._elapsed():5.0f} s: {len(self._deck)} faults to come, "
            f"{sum(self.faults.values())} of machines, "
            f"{sum(kills.values())} at kill points (fewest {min(kills.values())}), "
            f"{sum(weather.values())} of exchanges (fewest {min(weather[one] for one in HTTP_FAULTS)}); "
            f"{self.world.moves} moves, {self.progress.ended} runs ended, {len(self.progress.open)} open"
        )

    # -- faults ------------------------------------------------------------------------------------

    def _strike(self) -> None:
        """The next fault of the deck; one that cannot happen just now goes back to the end."""
        for _ in range(len(self._deck)):
            fault = self._deck.pop()
            if self._begin(fault):
                self.progress.struck(self._elapsed(), fault)
                return
            self._deck.insert(0, fault)

    def _begin(self, fault: str) -> bool:
        if fault in KILL_POINTS:
            if fault in self.fleet.armoury.armed():
                return False
            self.fleet.armoury.arm(fault)
            return True
        if not self._faults[fault]():
            return False
        self.faults[fault] += 1
        return True

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._timers, Timer(self._elapsed() + seconds, next(self._numbers), action))

    def _mark(self, what: str, seconds: float, undo: Callable[[], object]) -> None:
        self._down.add(what)

        def end() -> None:
            self._down.discard(what)
            undo()

        self._after(seconds, end)

    def _kill(self, name: str) -> bool:
        self.fleet.kept[name].kill()
        return True

    def _kill_child(self) -> bool:
        return self.fleet.kill_child(self.random.choice(self.fleet.regions))

    def _kill_producer(self) -> bool:
        """While it is writing runs and sending messages about them."""
        producer = self.fleet.producer
        if not producer.running:
            return False
        self.people.start_runs(2)
        self._after(self.random.uniform(0.0, 0.03), producer.kill)
        return True

    def _kill_valkey(self) -> bool:
        if "valkey" in self._down:
            return False
        self.fleet.valkey.kill()
        self._mark("valkey", self.random.uniform(0.05, 1.5), self.fleet.valkey.come_back)
        return True

    def _lose_tail(self) -> bool:
        if not self._kill_valkey():
            return False
        self.fleet.valkey.lose_tail()
        return True

    def _fill_valkey(self) -> bool:
        if {"valkey", "full"} & self._down:
            return False
        self._limit_memory("1mb")
        self._mark("full", self.random.uniform(0.3, 2.0), lambda: self._limit_memory("0"))
        return True

    def _limit_memory(self, size: str) -> None:
        with contextlib.suppress(RedisError):  # killed meanwhile: it comes back without a limit
            self.fleet.client.config_set("maxmemory", size)

    def _double(self) -> bool:
        if "single" in self._down:
            return False
        self.fleet.armoury.double(on=True)
        self._mark("single", self.random.uniform(1, 3), lambda: self.fleet.armoury.double(on=False))
        return True

    def _registry_down(self, seconds: float = 0.0) -> bool:
        """For so long; else for some seconds, and at times until probes have seen it from everywhere."""
        up = [proxy for proxy in self.fabric.proxies if proxy.name not in self._down]
        until_seen = not seconds and self.outages.is_to_be_seen and UNSEEN not in self._down
        if not up or (until_seen and not self._does_ledger_say(self.outages.are_known)):
            return False
        proxy = self.random.choice(up)
        outage = self.outages.begin(proxy.host)
        proxy.switch("refuse")

        def end() -> None:
            outage.ended = time.time()
            proxy.switch("through")

        if until_seen:
            self._down |= {proxy.name, UNSEEN}
            self._await_seen(proxy.name, outage, end)
        else:
            self._mark(proxy.name, seconds or self.random.uniform(1, 4), end)
        return True

    def _await_seen(self, name: str, outage: Outage, end: Callable[[], None]) -> None:
        """Look again and again, until it is seen, it is late, or all is healed."""
        is_late = self._is_healing or time.time() - outage.begun >= SEEN_WITHIN_S
        if is_late or self._does_ledger_say(lambda: self.outages.is_seen(outage)):
            self._down -= {name, UNSEEN}
            end()
        else:
            self._after(SEEN_EVERY_S, lambda: self._await_seen(name, outage, end))

    def _does_ledger_say(self, so: Callable[[], bool]) -> bool:
        with contextlib.suppress(RedisError):
            return "valkey" not in self._down and so()
        return False

    def _cut(self) -> bool:
        """A region's workers reach nobody, or at least not Redis; half the time their connections survive."""
        region = self.random.choice(self.fleet.regions)
        if region in self._down:
            return False
        link, resets = self.fleet.cuts[region], self.random.random() < 0.5
        link.switch("cut")
        self._mark(region, self.random.uniform(1, 5), lambda: link.switch("through", resets=resets))
        return True

    def _kill_fleet(self) -> bool:
        if "valkey" in self._down:
            return False
        for kept in self.fleet.kept.values():
            kept.kill()
        self.fleet.producer.kill()
        if self.random.random() < 0.5:
            self._kill_valkey()
        return True


REGION_NAMES = list(dict.fromkeys(REGIONS.values()))
