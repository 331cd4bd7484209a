"""What may go wrong, and what goes on: time, clocks, members, runtimes."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.provisioners.memory import Operation
from tests.handling.life.lab import Member
from tests.handling.life.model import turning_points
from tests.handling.life.platform import Platform, names
from tests.handling.world import HOUR, MINUTE, SECOND

ERRORS: dict[str, Callable[[], ProvisionerError]] = {
    "for now": lambda: Transient("runtime_error", "It stumbled."),
    "for all": lambda: Unavailable("It does not answer."),
    "for ever": lambda: Permanent("forbidden", "No."),
}
OPERATIONS: tuple[Operation, ...] = ("find", "ensure", "remove", "list")
JUMP = 8 * MINUTE
"""How long the wall clock may be wrong: a little less than until it is believed."""

engines = st.sampled_from(["docker", "podman"])


class Trouble(Platform):
    """A platform in a world where nothing can be relied on."""

    # Time

    @rule(length=st.sampled_from([0.0, 0.005, 0.3, 2, 10, 30]))
    def a_moment_passes(self, length: float) -> None:
        self.do(self._pass(length))

    @rule(length=st.sampled_from([60, 150, 300, 600, 1200, 3600]))
    def time_passes(self, length: float) -> None:
        self.do(self._pass(length))

    @precondition(lambda self: self._next_turn() is not None)
    @rule(after=st.sampled_from([-1.0, 1.0, 180.0]))
    def something_is_due(self, after: float) -> None:
        moment = self._next_turn()
        assert moment is not None
        self.do(self._pass(max(0.0, (moment - self.lab.now()).total_seconds() + after)))

    def _next_turn(self) -> datetime | None:
        """When the next reservation begins or is over."""
        now, policy = self.lab.now(), self.lab.policy
        stories = [list(placed.values()) for placed in self.lab.watch.events.values()]
        return min((each for story in stories for each in turning_points(story, policy) if each > now), default=None)

    async def _pass(self, length: float) -> None:
        if self.jumped_at is not None:
            until = self.jumped_at + JUMP
            if self.lab.now() + length * SECOND > until:
                await self._set_right()
        await asyncio.sleep(length)

    async def _set_right(self) -> None:
        """And look at the clock, so that the next jump is another one."""
        self.lab.wall_is_ahead, self.jumped_at = timedelta(), None
        await asyncio.sleep(2)

    @rule(ahead=st.sampled_from([-HOUR, HOUR]), length=st.sampled_from([0, 30, 400]))
    def the_wall_clock_jumps(self, ahead: timedelta, length: float) -> None:
        async def jump() -> None:
            if self.jumped_at is None:
                self.jumped_at = self.lab.now()
            self.lab.wall_is_ahead = ahead
            self.lab.watch.tell(f"the wall clock jumps by {ahead}")
            await self._pass(length)

        self.do(jump())

    @precondition(lambda self: self.jumped_at is not None)
    @rule()
    def the_wall_clock_is_set_right(self) -> None:
        self.do(self._set_right())

    # Members

    @precondition(lambda self: len(self.lab.members) < self.most_members and self.jumped_at is None)
    @rule()
    def a_member_joins(self) -> None:
        self.lab.watch.tell("a member joins")
        self.do(self._moving(self.lab.joins()))

    @precondition(lambda self: self.lab.members)
    @rule(data=st.data())
    def a_member_leaves(self, data: st.DataObject) -> None:
        self.lab.watch.tell("a member leaves")
        self.do(self._moving(self.lab.leaves(self._one(data))))

    @precondition(lambda self: self.lab.members)
    @rule(data=st.data(), rest_goes_on=st.booleans())
    def a_member_is_killed(self, data: st.DataObject, rest_goes_on: bool) -> None:
        self.lab.watch.tell("a member is killed")
        self.do(self.lab.is_killed(self._one(data)))
        if rest_goes_on:
            self.do(self._moving(self.lab.divide()))

    @precondition(lambda self: self.lab.members)
    @rule()
    def partitions_move(self) -> None:
        self.lab.watch.tell("partitions move")
        self.lab.members.reverse()
        self.do(self._moving(self.lab.divide()))

    def _one(self, data: st.DataObject) -> Member:
        return self.lab.members[data.draw(st.integers(0, len(self.lab.members) - 1))]

    async def _moving(self, what: Coroutine[Any, Any, None]) -> None:
        """That takes as long as the work that is finished first."""
        await self._set_right()
        await what

    # Runtimes

    @rule(
        engine=engines,
        operation=st.sampled_from(OPERATIONS),
        error=st.sampled_from(sorted(ERRORS)),
        is_done=st.booleans(),
        nth=st.sampled_from([1, 2, 5]),
        times=st.sampled_from([1, 5]),
    )
    def a_call_will_fail(
        self, engine: str, operation: Operation, error: str, is_done: bool, nth: int, times: int
    ) -> None:
        runtime = getattr(self.lab, engine)
        self.lab.watch.troubled = True
        self.lab.watch.tell(f"{operation} on {engine} fails, {nth} from now, {times} times, done: {is_done}: {error}")
        for number in range(nth, nth + times):
            (runtime.lose_reply if is_done else runtime.fail)(operation, ERRORS[error](), nth=number)

    @rule(engine=engines)
    def a_runtime_goes_away_or_comes_back(self, engine: str) -> None:
        runtime = getattr(self.lab, engine)
        self.lab.watch.troubled = True
        runtime.reachable = not runtime.reachable
        self.lab.watch.tell(f"{engine} is {'there' if runtime.reachable else 'away'}")

    @rule(engine=engines, takes=st.sampled_from([0.0, 0.2, 3.0, 20.0, 70.0, 1000.0]))
    def a_runtime_takes_its_time(self, engine: str, takes: float) -> None:
        self.lab.watch.troubled |= takes > 3.0
        self.lab.watch.tell(f"{engine} takes {takes} s")
        getattr(self.lab, engine).latency = takes

    @rule(takes=st.sampled_from([0.01, 1.0, 10.0]))
    def publishing_takes_its_time(self, takes: float) -> None:
        self.lab.publishing_takes = takes

    @rule(name=names, stops=st.booleans())
    def an_environment_is_lost(self, name: str, stops: bool) -> None:
        async def vanish() -> None:
            if self.lab.live(name):
                self.lab.watch.troubled = True
                self.lab.watch.tell(f"the environment of {name} {'stops' if stops else 'vanishes'}")
                self.lab.vanishes(name, stops=stops)

        self.do(vanish())
