"""The ledger counts each reservation once, by the best that is known, and lets nobody in for whom there is no room."""

from collections import defaultdict
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consumer.catalog.errors import Refused
from consumer.catalog.quotas import Account, Holding, QuotaRules, Usage
from consumer.catalog.templates import Catalog
from consumer.handling.errors import Queued
from consumer.handling.ports import Environment, Status
from consumer.handling.quotas import Ledger
from consumer.handling.waiting import Waiting
from schemas.outbound import Access
from schemas.state import Phase
from schemas.state_index import StateIndex

TEMPLATES = """
version: 1
quotas: {user: {environments: 2, cpu: 3}, total: {environments: 4}}
templates:
  - {name: gpu, match: {type: GPU}, runtime: docker, image: nginx, quotas: {total: {environments: 1}, queue: true}}
  - {name: linux, runtime: docker, image: nginx, quotas: {queue: QUEUE}}
"""


def rules(*, queue: bool = False) -> QuotaRules:
    return Catalog.from_yaml(TEMPLATES.replace("QUEUE", str(queue).lower()), instance="test").quotas


def ann(cpu: int = 1000, template: str = "linux", user: str = "ann") -> Holding:
    return Holding(user, template, Usage(1, cpu, 0))


def index(has: Holding, phase: Phase = Phase.ACTIVE, *, environment: bool = True) -> StateIndex:
    usage = has.usage
    return StateIndex(
        phase, 0.0, 1.0, 0.0, "12", has.user, has.template, environment, False, True, None,
        usage.cpu_millis, usage.memory_bytes, *has.runtimes,
    )  # fmt: skip


def seen(name: str, has: Holding) -> Environment:
    return Environment(
        runtime=has.runtimes[0] if has.runtimes else "docker",
        name=name,
        native_id=name,
        key=name,
        reservation_id=name,
        resource_id="12",
        spec_hash="",
        status=Status.RUNNING,
        access=Access(host="localhost"),
        user_id=has.user,
        template=has.template,
        cpu_millis=has.usage.cpu_millis,
        memory_bytes=has.usage.memory_bytes,
    )


def refused(ledger: Ledger, name: str, wanted: Holding, at: float = 0.0) -> bool:
    try:
        ledger.claim(name, wanted, at=at)
    except Refused:
        return True
    return False


def waits(ledger: Ledger, name: str, wanted: Holding, at: float = 0.0) -> bool:
    try:
        ledger.claim(name, wanted, at=at)
    except Queued:
        return True
    return False


# What counts


def test_a_claim_counts_at_once_and_is_given_back() -> None:
    ledger = Ledger(rules())
    ledger.claim("a", ann(2000), at=0.0)
    assert ledger.used("ann") == ledger.used() == ledger.used("ann", "linux") == Usage(1, 2000)
    assert refused(ledger, "b", ann(2000))
    ledger.settle("a")
    assert ledger.used() == Usage()
    assert not refused(ledger, "b", ann(2000))


def test_a_state_takes_the_place_of_its_claim() -> None:
    ledger = Ledger(rules())
    ledger.claim("a", ann(2000), at=0.0)
    ledger.remember(0, "a", index(ann(2000)))
    assert ledger.used("ann") == Usage(1, 2000)
    ledger.settle("a")
    assert ledger.used("ann") == Usage(1, 2000)
    ledger.remember(0, "a", index(ann(2000), Phase.RELEASED, environment=False))
    assert ledger.used() == Usage()


def test_what_ended_and_could_not_be_removed_counts_until_it_is_gone() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "a", index(ann(), Phase.RELEASED))
    ledger.observe([seen("a", ann())])
    assert ledger.used("ann") == Usage(1, 1000)
    ledger.observe([])
    assert ledger.used("ann") == Usage()


def test_what_runs_and_is_not_seen_for_a_moment_goes_on_counting() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "a", index(ann()))
    ledger.observe([])
    assert ledger.used("ann") == Usage(1, 1000)


def test_an_environment_of_another_member_counts_as_long_as_it_is_seen() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "mine", index(ann(1)))
    ledger.observe([seen("a", ann(1999)), seen("mine", ann(1))])
    assert ledger.used("ann") == Usage(2, 2000)
    assert refused(ledger, "b", ann(2000))
    ledger.observe([])
    assert ledger.used() == Usage(1, 1)


def test_what_changes_during_a_look_is_not_taken_for_what_that_shows() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "a", index(ann()))
    ledger.begin_look()
    ledger.remember(0, "a", index(ann(), Phase.RELEASED, environment=False))
    ledger.observe([seen("a", ann())])
    assert ledger.used() == Usage()
    ledger.begin_look()
    ledger.observe([seen("a", ann())])  # it is still there, so it is left over
    assert ledger.used() == Usage(1, 1000)


def test_what_a_crash_left_of_a_start_counts_until_the_start_comes_again() -> None:
    ledger = Ledger(rules())
    ledger.observe([seen("new", ann()), seen("known", ann()), seen("ended", ann())])
    ledger.restore(0, "known", index(ann(), Phase.PENDING, environment=False))
    ledger.restore(0, "ended", index(ann(), Phase.RELEASED, environment=False))
    assert ledger.used("ann") == Usage(2, 2000)
    assert refused(ledger, "other", ann())
    for name in ("new", "known"):
        ledger.claim(name, ann(), at=0.0)
    assert ledger.used("ann") == Usage(2, 2000)


def test_what_an_environment_of_an_earlier_release_does_not_tell_counts_for_nothing() -> None:
    ledger = Ledger(rules())
    bare = Environment("docker", "a", "a", "a", "a", "12", "", Status.RUNNING, Access(host="localhost"), user="ann")
    ledger.observe([bare])
    assert ledger.used("ann") == ledger.used() == Usage(1)


def test_a_partition_that_is_given_up_goes_on_counting_until_the_next_look() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "a", index(ann()))
    ledger.remember(1, "b", index(ann()))
    ledger.forget(0)
    assert ledger.used("ann") == Usage(2, 2000)
    ledger.begin_look()
    ledger.observe([seen("b", ann())])
    assert ledger.used("ann") == Usage(1, 1000)
    ledger.forget(1)
    ledger.restore(1, "b", index(ann(), Phase.RELEASED, environment=False))  # it has come back, and has ended
    assert ledger.used() == Usage()


def test_what_is_remembered_counts_for_whom_it_belongs_to_by_now() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "a", index(ann()))
    ledger.vacate("a")
    ledger.claim("a", ann(user="bob"), at=0.0)
    assert (ledger.used("ann"), ledger.used("bob")) == (Usage(), Usage(1, 1000))


# Who gets in


def test_who_takes_no_more_than_before_is_never_refused() -> None:
    ledger = Ledger(rules())
    for name in ("a", "b", "c"):  # one more than the quota, which was lowered
        ledger.remember(0, name, index(ann()))
    ledger.claim("a", ann(1000), at=0.0)
    ledger.settle("a")
    ledger.claim("a", ann(500), at=0.0)
    ledger.settle("a")
    assert refused(ledger, "a", ann(1001))
    assert refused(ledger, "a", ann(1000, user="eve")) is False  # hers is another quota
    assert refused(ledger, "d", ann(1))


def test_the_own_environment_makes_room_for_the_one_that_takes_its_place() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "a", index(ann(2000)))
    ledger.claim("a", ann(3000), at=0.0)
    assert ledger.used("ann") == Usage(1, 3000)


def test_what_is_there_already_needs_no_room() -> None:
    ledger = Ledger(rules())
    ledger.remember(0, "a", index(ann(3000)))
    assert refused(ledger, "b", ann())
    ledger.claim("b", ann(), at=0.0, exists=True)
    assert ledger.used("ann") == Usage(2, 4000)


def test_what_no_quota_has_room_for_is_refused_although_others_wait() -> None:
    ledger = Ledger(rules(queue=True))
    ledger.claim("a", ann(3000), at=0.0)
    assert waits(ledger, "b", ann(3000))
    with pytest.raises(Refused, match="This needs 3001m CPU, and you may use 3 at a time"):
        ledger.claim("c", ann(3001), at=0.0)


def test_without_quotas_nothing_is_counted() -> None:
    ledger = Ledger(QuotaRules())
    for number in range(100):
        ledger.claim(str(number), ann(10**9), at=0.0)
        ledger.remember(0, str(number), index(ann()))
    ledger.observe([seen("x", ann())])
    assert ledger.used() == Usage()


# Who waits


def test_first_come_first_served() -> None:
    ledger = Ledger(rules(queue=True))
    ledger.claim("a", ann(), at=0.0)
    ledger.claim("b", ann(), at=0.0)
    assert [waits(ledger, name, ann(), at=1.0) for name in ("c", "d", "e")] == [True] * 3
    ledger.settle("a")
    assert waits(ledger, "e", ann(), at=2.0)
    assert waits(ledger, "d", ann(), at=2.0)
    assert waits(ledger, "late", ann(), at=2.0)
    assert not waits(ledger, "c", ann(), at=2.0)
    ledger.settle("b")
    assert waits(ledger, "e", ann(), at=3.0)
    assert not waits(ledger, "d", ann(), at=3.0)


def test_who_asks_for_little_does_not_overtake_the_same_user_who_waits_for_more() -> None:
    ledger = Ledger(rules(queue=True))
    ledger.claim("a", ann(2000), at=0.0)
    assert waits(ledger, "b", ann(2000))
    assert waits(ledger, "c", ann(1000))
    assert not waits(ledger, "other", ann(1000, user="bob"))
    ledger.settle("a")
    assert not waits(ledger, "b", ann(2000))
    assert not waits(ledger, "c", ann(1000))


def test_who_waits_for_the_quota_of_all_holds_up_nobody_who_needs_less() -> None:
    ledger = Ledger(rules(queue=True))
    ledger.claim("a", ann(template="gpu", user="eve"), at=0.0)
    assert waits(ledger, "b", ann(template="gpu"))  # another GPU is not to be had
    assert not waits(ledger, "c", ann())


@pytest.mark.parametrize("gone", ["ended", "silent"])
def test_who_waits_no_longer_holds_nobody_up(gone: str) -> None:
    ledger = Ledger(rules(queue=True))
    ledger.claim("a", ann(2000), at=0.0)
    assert waits(ledger, "b", ann(2000))
    if gone == "ended":
        ledger.settle("b")
    assert waits(ledger, "c", ann(1000), at=5.0) is (gone == "silent")
    assert not waits(ledger, "c", ann(1000), at=11.0)


def test_who_asks_again_goes_on_waiting_and_keeps_the_place() -> None:
    waiting = Waiting()
    waiting.join("a", ann(), 0.0)
    waiting.join("b", ann(), 1.0)
    waiting.join("a", ann(), 9.0)
    assert [name for name, _ in waiting.before("c", "ann", 15.0)] == ["a"]
    assert "b" not in waiting
    assert list(waiting.before("a", "ann", 15.0)) == []


def test_of_other_users_only_the_first_stands_before_somebody() -> None:
    waiting = Waiting()
    for number in range(6):
        waiting.join(str(number), ann(user="ann" if number % 2 else "bob"), 0.0)
    assert [name for name, _ in waiting.before("x", "ann", 1.0)] == ["0", "1", "3", "5"]
    assert [name for name, _ in waiting.before("3", "ann", 1.0)] == ["0", "1"]
    waiting.join("2", ann(user="bob"), 9.0)
    assert [name for name, _ in waiting.before("x", "eve", 11.0)] == ["2"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ann", "bob"]), st.booleans()), max_size=30))
def test_whoever_is_let_in_nobody_is_over_a_quota(asked: Iterable[tuple[str, str, bool]]) -> None:
    ledger = Ledger(rules(queue=True))
    for number, (name, user, settle) in enumerate(asked):
        wanted = ann(1000 + 500 * (number % 3), "gpu" if name == "c" else "linux", user)
        if not waits(ledger, f"{name}-{user}", wanted, at=float(number)) and settle:
            ledger.remember(0, f"{name}-{user}", index(wanted))
            ledger.settle(f"{name}-{user}")
        for each in ("ann", "bob"):
            assert ledger.used(each).within(Usage(2, 3000, 0))
        assert ledger.used().environments <= 4
        assert ledger.used(None, "gpu").environments <= 1


partitions = st.integers(0, 1)
names = st.sampled_from(["a", "b", "c", "d"])
runtimes = st.sampled_from(["docker", "podman"])
holdings = st.builds(
    lambda user, template, cpu, memory, runtime: Holding(user, template, Usage(1, cpu, memory), (runtime,)),
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["gpu", "linux", None]),
    st.integers(0, 5),
    st.integers(0, 5),
    runtimes,
)


class Counting(RuleBasedStateMachine):
    """Whatever becomes known in whatever order, the sums are what counting anew comes to."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(rules())
        self.claims: dict[str, Holding] = {}
        self.states: dict[str, tuple[int, Holding, Phase]] = {}
        self.seen: dict[str, Holding] = {}
        self.changed: set[str] | None = None

    @rule(
        partition=st.integers(0, 1), name=names, has=holdings, phase=st.sampled_from(Phase), environment=st.booleans()
    )
    def remember(self, partition: int, name: str, has: Holding, phase: Phase, environment: bool) -> None:
        self.ledger.remember(partition, name, index(has, phase, environment=environment))
        self.seen.pop(name, None)
        self.states.pop(name, None)
        if self.changed is not None:
            self.changed.add(name)
        if phase is Phase.ACTIVE or environment:
            self.states[name] = (partition, has, phase)

    @rule(partition=partitions)
    def forget(self, partition: int) -> None:
        self.ledger.forget(partition)
        for name in [name for name, (where, *_) in self.states.items() if where == partition]:
            self.seen[name] = self.states.pop(name)[1]

    @rule(name=names, wanted=holdings, exists=st.booleans())
    def claim(self, name: str, wanted: Holding, exists: bool) -> None:
        try:
            self.ledger.claim(name, wanted, at=0.0, exists=exists)
        except (Refused, Queued):
            assert not exists
        else:
            self.claims[name] = wanted

    @rule(name=names, waits=st.booleans())
    def settle(self, name: str, waits: bool) -> None:
        self.ledger.settle(name, waits=waits)
        self.claims.pop(name, None)

    @rule(name=names)
    def vacate(self, name: str) -> None:
        self.ledger.vacate(name)
        if self.changed is not None:
            self.changed.add(name)
        self.states.pop(name, None)
        self.seen.pop(name, None)

    @rule()
    def begin_look(self) -> None:
        self.ledger.begin_look()
        self.changed = set()

    @rule(found=st.dictionaries(names, holdings), silent=st.sets(runtimes))
    def observe(self, found: dict[str, Holding], silent: set[str]) -> None:
        found = {name: has for name, has in found.items() if not {*has.runtimes} & silent}
        self.ledger.observe([seen(*each) for each in found.items()], silent)
        for name, (_, has, phase) in list(self.states.items()):
            if phase is not Phase.ACTIVE and name not in found and not {*has.runtimes} & silent:
                del self.states[name]
        old = self.changed or set()
        self.seen = {name: has for name, has in self.seen.items() if name in old or {*has.runtimes} & silent} | {
            name: has for name, has in found.items() if name not in self.states and name not in old
        }
        self.changed = None

    @invariant()
    def every_sum_is_right(self) -> None:
        counted = self.seen | {name: has for name, (_, has, _) in self.states.items()} | self.claims
        sums: dict[Account, Usage] = defaultdict(Usage)
        for has in counted.values():
            for account in has.accounts:
                sums[account] = sums[account].plus(has.usage)
        assert self.ledger._tally.all() == sums


TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=30, stateful_step_count=25)
