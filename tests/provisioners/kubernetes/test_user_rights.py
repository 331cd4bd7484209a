"""With a namespace for each user Moorage lets itself in where it has to, and says which rule it lacks for that."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consumer.catalog.needs import Needs
from consumer.handling.errors import Transient
from consumer.handling.ports import Finding, Level, Provisioner
from consumer.provisioners.kubernetes.permissions import EVERYWHERE, IN_USERS, Rule, to_be_let_in
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import volume_of
from tests.provisioners.kubernetes.test_permissions import NOT_ASKED, UNRESTRICTED, errors, written
from tests.provisioners.kubernetes.test_removal import hold
from tests.provisioners.kubernetes.test_user_namespaces import BOB, harness
from tests.provisioners.kubernetes.users import UsersHarness
from tests.services import Kubernetes

pytestmark = pytest.mark.kubernetes
__all__ = ["harness"]

NOT_SEEN = {("create", "", "resourcequotas"), ("create", "", "limitranges"), ("patch", "", "configmaps")}
"""What a PATCH is that finds nothing to change, as it is logged; and what an extension of a reservation asks for."""

PODS = next(rule for rule in EVERYWHERE if rule.resource == "pods")
SECRETS = next(rule for rule in IN_USERS if rule.resource == "secrets")


@pytest.fixture
def role(kubernetes: Kubernetes, harness: UsersHarness) -> Iterator[str]:
    name = f"{harness.prefix}-role"
    yield name
    kubernetes.kubectl("delete", "clusterrole", name, "--ignore-not-found")


@pytest.fixture
def account(kubernetes: Kubernetes, namespace: str, role: str, tmp_path: Path) -> Path:
    """The kubeconfig of who has few rights everywhere, and may bind itself the role with the others."""
    let_in(kubernetes, role, IN_USERS)
    everywhere = written([*EVERYWHERE, *to_be_let_in(role)])
    return kubernetes.account(namespace, [], tmp_path / "kubeconfig", everywhere=everywhere)


def without(rules: Sequence[Rule], rule: Rule, *verbs: str) -> list[Rule]:
    """The rules with nothing but these verbs of one of them."""
    return [replace(each, verbs=verbs) if each is rule else each for each in rules]


def let_in(kubernetes: Kubernetes, role: str, rules: Sequence[Rule]) -> None:
    about = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}}
    kubernetes.apply(about | {"rules": written(rules)})


def moorage(harness: UsersHarness, kubeconfig: Path, role: str | None, **changes: Any) -> Provisioner:
    return harness.provisioner_with(kubeconfig=str(kubeconfig), users=replace(harness.users, role=role), **changes)


async def test_moorage_works_with_the_rules_it_needs_and_gives_itself_the_rest(
    harness: UsersHarness, kubernetes: Kubernetes, namespace: str, role: str, tmp_path: Path
) -> None:
    everywhere = [*EVERYWHERE, *to_be_let_in(role)]
    let_in(kubernetes, role, IN_USERS)
    kubeconfig = kubernetes.account(namespace, [], tmp_path / "kubeconfig", everywhere=written(everywhere))
    provisioner = moorage(harness, kubeconfig, role, storage_class=harness.instance)
    await harness.storage()
    await harness.measures()
    spec = harness.spec(volume=volume_of(harness, "r-1"))

    assert [each.message for each in await provisioner.diagnose(Needs()) if each.level is not Level.OK] == []
    made = await provisioner.ensure(spec, ignore)
    await harness.measure(made)
    assert await provisioner.usage(spec.key) is not None
    await harness.stop(made)
    await provisioner.ensure(replace(spec, environment={"USER_EMAIL": "alice@example.com"}), ignore)
    bobs = await provisioner.ensure(harness.spec("r-2", user=BOB), ignore)
    assert {each.key for each in await provisioner.list()} == {spec.key, bobs.key}
    changed = replace(harness.users, role=role, pod_security="baseline")
    await harness.provisioner_with(kubeconfig=str(kubeconfig), users=changed).ensure(harness.spec("r-3"), ignore)
    assert await provisioner.remove(spec.key) is True

    asked = {each for each in kubernetes.requests_of(namespace) if not _open_to_all(each[2])}
    allowed = {(verb, rule.group, rule.resource) for rule in (*everywhere, *IN_USERS) for verb in rule.verbs}
    assert asked <= allowed
    assert allowed - asked <= NOT_ASKED | NOT_SEEN | {
        ("bind", "rbac.authorization.k8s.io", "clusterroles"),
        ("get", "", "configmaps"),
        ("get", "", "pods/log"),
        ("watch", "", "configmaps"),
    }


async def test_who_is_let_in_no_more_lets_itself_in_before_it_goes_on_with_what_is_there(
    harness: UsersHarness, kubernetes: Kubernetes, role: str, account: Path
) -> None:
    provisioner, spec = moorage(harness, account, role), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    later = spec.expires_at + timedelta(hours=1)

    for going_on in (
        provisioner.ensure(spec, ignore),
        provisioner.extend(spec.key, later),
        provisioner.remove(made.key),
    ):
        kubernetes.kubectl("delete", "rolebindings", "--all", f"--namespace={harness.namespace}")
        assert await going_on
    assert await harness.leftovers() == []


async def test_a_namespace_in_which_nothing_may_be_done_since_it_goes_is_one_users_trouble(
    harness: UsersHarness, kubernetes: Kubernetes, role: str, account: Path
) -> None:
    provisioner, spec = moorage(harness, account, role), harness.spec()
    made = await provisioner.ensure(spec, ignore)
    await hold(harness, made.name, ["moorage.test/stays"])
    kubernetes.kubectl("delete", "namespace", harness.namespace, "--wait=false")
    kubernetes.kubectl(
        "delete", "rolebindings", "--all", f"--namespace={harness.namespace}"
    )  # some clusters do it first

    with pytest.raises(Transient):
        await provisioner.remove(spec.key)
    await hold(harness, made.name, None)
    async with asyncio.timeout(30):
        while await harness.namespaces():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await provisioner.remove(spec.key) is False


async def test_rules_that_are_missing_are_named_with_whom_to_add_them_to(
    harness: UsersHarness, kubernetes: Kubernetes, namespace: str, role: str, tmp_path: Path
) -> None:
    everywhere = without([*EVERYWHERE, *to_be_let_in(role)], PODS, "list")
    kubeconfig = kubernetes.account(namespace, [], tmp_path / "kubeconfig", everywhere=written(everywhere))
    provisioner = moorage(harness, kubeconfig, role)

    assert [each.message for each in errors(await provisioner.diagnose(Needs()))] == [
        "Moorage may not watch pods in all namespaces.",
        f"There is no ClusterRole {role}.",
    ]
    let_in(kubernetes, role, without(IN_USERS, SECRETS, "get"))
    watch, secrets = errors(await provisioner.diagnose(Needs()))
    assert watch.remedy == 'Add to its ClusterRole: {apiGroups: [""], resources: [pods], verbs: [watch]}'
    assert secrets.message == "Moorage may not create, delete, deletecollection secrets in users' namespaces."
    assert secrets.remedy is not None
    assert secrets.remedy.startswith(f"Add to the ClusterRole {role}: ")


async def test_who_may_do_everything_needs_no_role_and_privileges_are_warned_of(harness: UsersHarness) -> None:
    findings = await harness.provisioner().diagnose(Needs())
    privileged = replace(harness.users, pod_security="privileged")
    warned = await harness.provisioner_with(users=privileged).diagnose(Needs())

    assert errors(findings) == []
    assert of_namespaces(findings) == [Level.OK]
    assert of_namespaces(warned) == [Level.WARNING]


async def test_users_namespaces_that_nobody_looks_after_any_more_are_told_of(
    harness: UsersHarness, namespace: str
) -> None:
    shared = harness.provisioner_with(namespace=namespace, users=None)
    assert of_namespaces(await shared.diagnose(Needs())) == []
    await harness.provisioner().ensure(harness.spec(), ignore)

    assert of_namespaces(await shared.diagnose(Needs())) == [Level.WARNING]


def of_namespaces(findings: Sequence[Finding]) -> list[Level]:
    return [each.level for each in findings if each.subject == "namespaces"]


def _open_to_all(resource: str) -> bool:
    return resource in (*UNRESTRICTED, "selfsubjectreviews")
