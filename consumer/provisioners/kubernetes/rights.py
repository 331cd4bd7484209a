"""Which of the rules that Moorage needs it does not have, each with who has to be given it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from consumer.catalog.needs import Needs
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Finding, Level
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Answer, Missing
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.permissions import Rule, everywhere_for, in_users_for, needed_for, to_be_let_in

_CLUSTER_ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


async def lacking(client: Client, rule: Rule, namespace: str | None) -> Rule:
    """The part of a rule that does not hold for us in the namespace, or in all of them."""
    asked = (client.may(verb, rule.group, rule.resource, namespace, rule.name) for verb in rule.verbs)
    return _without(rule, await asyncio.gather(*asked))


async def not_allowed(client: Client, options: KubernetesOptions, needs: Needs) -> list[Finding]:
    """What Moorage may not do and has to. Raises `Unavailable`."""
    if (users := options.users) is None:
        missing = await _all_lacking(client, needed_for(needs), options.namespace)
        return [_finding(rule, f"in the namespace {options.namespace}", "its Role") for rule in missing]
    rules = (*everywhere_for(needs), *(in_users_for(needs) if users.role is None else to_be_let_in(users.role)))
    missing = await _all_lacking(client, rules, None)
    found = [_finding(rule, "in all namespaces", "its ClusterRole") for rule in missing]
    return found + ([] if users.role is None else await _of_role(client, users.role, in_users_for(needs)))


async def _of_role(client: Client, role: str, needed: Iterable[Rule]) -> list[Finding]:
    try:
        shown = await client.ask("GET", f"{_CLUSTER_ROLES}/{role}")
    except Missing:
        remedy = "Make it, or set MOORAGE_KUBERNETES_USER_ROLE to the name of the one that is there."
        return [Finding(Level.ERROR, "permissions", f"There is no ClusterRole {role}.", remedy)]
    except (ProvisionerError, Answer):
        return []  # that Moorage may not look at it has been told
    granted = shown.get("rules") or ()
    rules = (_without(rule, [_grants(granted, rule, verb) for verb in rule.verbs]) for rule in needed)
    return [_finding(rule, "in users' namespaces", f"the ClusterRole {role}") for rule in rules if rule.verbs]


def _grants(granted: Iterable[Mapping[str, Any]], rule: Rule, verb: str) -> bool:
    wanted = {"apiGroups": rule.group, "resources": rule.resource, "verbs": verb}
    return any(
        not each.get("resourceNames") and all({"*", what} & {*each.get(part, ())} for part, what in wanted.items())
        for each in granted
    )


async def _all_lacking(client: Client, rules: Iterable[Rule], namespace: str | None) -> list[Rule]:
    return [rule for rule in await asyncio.gather(*(lacking(client, rule, namespace) for rule in rules)) if rule.verbs]


def _without(rule: Rule, held: Iterable[bool]) -> Rule:
    return replace(rule, verbs=tuple(verb for verb, holds in zip(rule.verbs, held, strict=True) if not holds))


def _finding(rule: Rule, where: str, holder: str) -> Finding:
    what = f"Moorage may not {', '.join(rule.verbs)} {rule.resource} {where}."
    return Finding(Level.ERROR, "permissions", what, f"Add to {holder}: {rule}")
