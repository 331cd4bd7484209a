"""Quotas: what operators write, what bounds an environment, and what its user is told when there is no room."""

import pytest

from consumer.catalog.errors import CatalogError
from consumer.catalog.quotas import Account, Bound, Holding, QuotaRules, Usage, refusal
from consumer.catalog.templates import Catalog, Defaults
from tests.catalog.reservations import catalog, checked

MI = 2**20

FILE = """
version: 1
quotas:
  user: {environments: 3, cpu: 4, memory: 8Gi}
  total: {environments: 100}
  queue: true
templates:
  - name: gpu
    match: {type: GPU}
    runtime: docker
    image: nginx
    quotas: {user: {environments: 1}, total: {cpu: 16}, queue: false}
  - {name: linux, runtime: docker, image: nginx}
"""


def rules(text: str = FILE) -> QuotaRules:
    return Catalog.from_yaml(text, instance="test").quotas


def problem(template: str = "", top: str = "") -> str:
    with pytest.raises(CatalogError) as caught:
        catalog(template, top=top)
    (only,) = caught.value.problems
    return only.split(": ", 1)[1]


def complaint(usage: Usage, *, used: Usage = Usage(), template: str = "gpu") -> str | None:  # noqa: B008 - frozen
    bounds = rules().bounds(Holding("ann", template, usage))
    return next(filter(None, (bound.complaint(used, usage) for bound in bounds)), None)


def test_an_environment_is_bounded_by_the_quotas_of_its_template_and_those_of_all() -> None:
    accounts = [each.account for each in rules().bounds(Holding("ann", "gpu", Usage(1)))]
    assert accounts == [
        Account("ann", "gpu"),
        Account("ann", None),
        Account(None, "gpu"),
        Account(None, None),
    ]
    assert [each.account for each in rules().bounds(Holding("bob", "linux", Usage(1)))] == [
        Account("bob", None),
        Account(None, None),
    ]


def test_a_template_that_is_gone_has_no_quotas_of_its_own() -> None:
    for template in ("gone", None):
        assert len(list(rules().bounds(Holding("ann", template, Usage(1))))) == 2
        assert rules().queues(template)


def test_a_template_decides_for_itself_whether_its_starts_wait() -> None:
    assert not rules().queues("gpu")
    assert rules().queues("linux")
    assert not rules(FILE.replace("  queue: true\n", "")).queues("linux")


def test_without_quotas_nothing_is_bounded() -> None:
    assert not catalog("").quotas
    assert not catalog("quotas: {}", top="quotas: {user: {}, queue: true}").quotas
    assert catalog("quotas: {total: {environments: 5}}").quotas
    assert list(catalog("").quotas.bounds(Holding("ann", "lab", Usage(1, 10**9, 10**15)))) == []


def test_what_counts_for_whom() -> None:
    assert Holding("ann", None, Usage(1)).accounts == (Account(None, None), Account("ann", None))
    assert set(Holding("ann", "gpu", Usage(1)).accounts) == {
        Account(None, None), Account("ann", None), Account(None, "gpu"), Account("ann", "gpu"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("used", "wanted", "template", "says"),
    [
        (Usage(1), Usage(1), "gpu", "You may have 1 environment of this kind at a time, and have 1: end another"),
        (Usage(3), Usage(1), "linux", "You may have 3 environments at a time, and have 3: end another reservation"),
        (
            Usage(2, 3500),
            Usage(1, 1000),
            "linux",
            "This needs 1 CPU, and you use 3500m of your 4: ask for less, or end",
        ),
        (Usage(), Usage(1, 5000), "linux", "This needs 5 CPU, and you may use 4 at a time: ask for less."),
        (
            Usage(1, 0, 7 * 1024 * MI),
            Usage(1, 0, 1025 * MI),
            "linux",
            "This needs 1025Mi of memory, and you use 7Gi of",
        ),
    ],
)
def test_a_user_is_told_which_quota_has_no_room(used: Usage, wanted: Usage, template: str, says: str) -> None:
    told = complaint(wanted, used=used, template=template)
    assert told is not None
    assert told.startswith(says)
    assert checked(refusal(told)).code == "quota_exceeded"


@pytest.mark.parametrize(
    ("account", "used", "wanted", "says"),
    [
        (Account(None, None), Usage(9), Usage(1), "At most 9 environments may run at a time, and 9 do: try again when"),
        (Account(None, "t"), Usage(9), Usage(1), "At most 9 environments of this kind may run at a time, and 9 do"),
        (Account(None, None), Usage(1, 500), Usage(1, 1500), "This needs 1500m CPU, and 500m of 1500m are in use: ask"),
        (
            Account(None, "t"),
            Usage(),
            Usage(1, 2000),
            "This needs 2 CPU, and at most 1500m may be in use at a time for",
        ),
    ],
)
def test_others_are_not_named_when_the_quota_of_all_has_no_room(
    account: Account, used: Usage, wanted: Usage, says: str
) -> None:
    most = catalog("", top="quotas: {total: {environments: 9, cpu: 1500m}}").quotas.common.total
    told = Bound(account, most).complaint(used, wanted)
    assert told is not None
    assert told.startswith(says)
    checked(refusal(told))


def test_up_to_the_quota_there_is_room() -> None:
    used, wanted = Usage(2, 3000, 7 * 1024 * MI), Usage(1, 1000, 1024 * MI)
    assert complaint(wanted, used=used, template="linux") is None
    assert complaint(wanted._replace(cpu_millis=1001), used=used, template="linux") is not None
    assert complaint(wanted._replace(memory_bytes=1024 * MI + 1), used=used, template="linux") is not None


def test_what_asks_for_more_than_a_whole_quota_is_too_large() -> None:
    assert rules().too_large(Holding("ann", "linux", Usage(1, 4000))) is None
    assert rules().too_large(Holding("ann", "linux", Usage(1, 4001))) is not None


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ("quotas: {user: {environments: 0}}", 'quotas.user.environments: "0" is not a number of environments: write 1'),
        ("quotas: {user: {environments: -1}}", 'quotas.user.environments: "-1" is not a number of environments'),
        ("quotas: {user: {environments: 1.5}}", 'quotas.user.environments: "1.5" is not a number of environments'),
        ("quotas: {user: {environments: ٣}}", "is not a number of environments"),
        ("quotas: {user: {environments: [1]}}", "quotas.user.environments: is not a text"),
        ("quotas: {user: {environments: }}", "quotas.user.environments: has no value"),
        ("quotas: {user: {environment: 1}}", 'quotas.user.environment: is not known; did you mean "environments"?'),
        ("quotas: {users: {}}", 'quotas.users: is not known; did you mean "user"?'),
        ("quotas: {user: 3}", "quotas.user: is not a set of keys; it can have: environments, cpu, memory"),
        ("quotas: {total: {cpu: unlimited}}", "quotas.total.cpu: cannot be unlimited: leave the key out"),
        ("quotas: {total: {cpu: 0}}", "quotas.total.cpu: CPU"),
        ("quotas: {total: {memory: 512m}}", 'Did you mean "512Mi"?'),
        ("quotas: {queue: perhaps}", "quotas.queue: should be a valid boolean"),
        ("quota: {}", 'quota: is not known; did you mean "quotas"?'),
        # the template's default is 1 CPU and 512Mi
        ("quotas: {user: {cpu: 999m}}", 'limits.cpu (template "lab"): is 1, above a quota of 999m: nobody could start'),
        ("quotas: {total: {memory: 511Mi}}", "is 512Mi, above a quota of 511Mi: nobody could start one"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(top: str, expected: str) -> None:
    assert expected in problem(top=top)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("quotas: {total: {cpu: 500m}}", 'templates[0].limits.cpu (template "lab"): is 1, above a quota of 500m'),
        (
            "limits: {memory: unlimited}, quotas: {user: {memory: 4Gi}}",
            "is unlimited, and a quota bounds Memory: state a limit, so that it can be counted",
        ),
    ],
)
def test_a_template_that_no_quota_has_room_for_is_a_mistake(template: str, expected: str) -> None:
    assert expected in problem(template)


def test_an_unlimited_environment_needs_no_room_in_quotas_of_something_else() -> None:
    assert catalog("limits: {memory: unlimited}, quotas: {user: {cpu: 4}}").quotas


def test_the_default_environment_may_have_quotas() -> None:
    defaults = Defaults(user_environments=2, total_environments=10, queue=True)
    quotas = Catalog.from_defaults(defaults, instance="test").quotas
    assert quotas.queues("default")
    assert [each.most.environments for each in quotas.bounds(Holding("ann", "default", Usage(1)))] == [2, 10]
    assert not Catalog.from_defaults(Defaults(), instance="test").quotas
