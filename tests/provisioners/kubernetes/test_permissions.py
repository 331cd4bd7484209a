"""Moorage works with exactly the rules that it says it needs, and says which one is missing."""

import asyncio
import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from consumer.catalog.environment import Readiness
from consumer.catalog.needs import Needs
from consumer.catalog.ports import PortRange
from consumer.handling.errors import Permanent, Unavailable
from consumer.handling.ports import Finding, Level
from consumer.provisioners.kubernetes.permissions import (
    HTTP_ROUTES,
    INGRESS_CLASSES,
    INGRESSES,
    KUBECONFIGS,
    NEEDED,
    WELCOME,
    Rule,
)
from tests.provisioners.harness import ignore
from tests.provisioners.kubernetes.harness import STUCK, KubernetesHarness, volume_of
from tests.services import Kubernetes

pytestmark = pytest.mark.kubernetes

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "kubernetes.md"
UNRESTRICTED = ("/version", "/apis/metrics.k8s.io/v1beta1", "selfsubjectaccessreviews")
NOT_ASKED = {("update", "", "configmaps/finalizers"), ("list", "", "events")}
"""What some clusters check by themselves, or only a node that complains leads to."""

SECRETS = next(rule for rule in NEEDED if rule.resource == "secrets")


def written(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    return [
        {"apiGroups": [rule.group], "resources": [rule.resource], "verbs": [*rule.verbs]}
        | ({"resourceNames": [rule.name]} if rule.name else {})
        for rule in rules
    ]


def errors(findings: Sequence[Finding]) -> list[Finding]:
    return [each for each in findings if each.level is Level.ERROR]


def test_the_how_to_has_the_rules_that_are_needed() -> None:
    (role,) = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)

    assert next(yaml.safe_load_all(role))["rules"] == written([*NEEDED, *WELCOME])


def test_the_how_to_has_the_rules_for_routes() -> None:
    shown = [
        yaml.safe_load(rule) for rule in re.findall(r"^```yaml\n  - ({.*})\n```$", HOW_TO.read_text(), re.MULTILINE)
    ]

    assert shown == written([INGRESSES, INGRESS_CLASSES, HTTP_ROUTES])


def test_the_how_to_has_the_rules_that_kubeconfigs_need() -> None:
    (rules,) = re.findall(r"```yaml\n(- \{apiGroups.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)

    assert yaml.safe_load(rules) == written(KUBECONFIGS)


def test_a_rule_is_shown_as_it_stands_in_a_role() -> None:
    assert [yaml.safe_load(str(rule)) for rule in NEEDED] == written(NEEDED)


async def test_moorage_works_with_the_rules_it_needs_and_has_nothing_to_complain_of(
    harness: KubernetesHarness, kubernetes: Kubernetes, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = kubernetes.account(namespace, written([*NEEDED, *WELCOME]), tmp_path / "kubeconfig")
    provisioner = harness.provisioner_with(kubeconfig=str(kubeconfig), storage_class=harness.instance)
    await harness.storage()
    spec = harness.spec(volume=volume_of(harness, "r-1"))
    await harness.measure(await provisioner.ensure(spec, ignore))

    findings = await provisioner.diagnose(Needs())

    assert [each.message for each in findings if each.level is not Level.OK] == []
    assert "restricted" in " ".join(each.message for each in findings)
    assert await provisioner.usage(spec.key) is not None
    assert await provisioner.find(spec.key) is not None
    later = replace(spec, expires_at=spec.expires_at.replace(year=2031))
    await harness.stop(await provisioner.ensure(replace(later, name=f"{spec.name}-elsewhere"), ignore))
    await provisioner.ensure(replace(later, environment={"USER_EMAIL": "alice@example.com"}), ignore)
    assert await provisioner.remove(spec.key) is True
    unready = harness.spec("r-2", labels=STUCK, ready=Readiness(within=0.1))
    with pytest.raises(Permanent):
        await _never_ready(harness, provisioner, unready)
    occupied = harness.spec("r-3")
    await harness.occupy(occupied)
    with pytest.raises(Permanent, match="did not make"):
        await provisioner.ensure(occupied, ignore)
    await harness.vacate(occupied)
    asked = {each for each in kubernetes.requests_of(namespace) if each[2] not in UNRESTRICTED}
    allowed = {(verb, rule.group, rule.resource) for rule in (*NEEDED, *WELCOME) for verb in rule.verbs}
    assert asked <= allowed
    assert allowed - asked <= NOT_ASKED


async def test_a_rule_that_is_missing_is_named_with_what_to_add(
    harness: KubernetesHarness, kubernetes: Kubernetes, namespace: str, tmp_path: Path
) -> None:
    rules = [*(rule for rule in NEEDED if rule is not SECRETS), replace(SECRETS, verbs=("get",))]
    kubeconfig = kubernetes.account(namespace, written(rules), tmp_path / "kubeconfig")
    provisioner = harness.provisioner_with(kubeconfig=str(kubeconfig))

    (missing,) = errors(await provisioner.diagnose(Needs()))

    assert missing.message == f"Moorage may not create, delete, deletecollection secrets in the namespace {namespace}."
    assert missing.remedy is not None
    assert "resources: [secrets], verbs: [create, delete, deletecollection]}" in missing.remedy
    with pytest.raises(Unavailable, match='cannot create resource "secrets"'):
        await provisioner.ensure(harness.spec(), ignore)


async def test_a_namespace_that_is_missing_and_ports_that_no_node_has_are_named(harness: KubernetesHarness) -> None:
    needs = Needs(host_ports=(("web", PortRange(8000, 8999)),))

    findings = await harness.provisioner_with(namespace="nobody-made-it").diagnose(needs)

    said = {each.subject: each for each in findings}
    assert said["namespace nobody-made-it"].message == "It does not exist."
    assert said["template web"].level is Level.WARNING


async def test_an_api_that_does_not_answer_is_the_only_finding(harness: KubernetesHarness) -> None:
    (finding,) = await harness.unreachable().diagnose(Needs())

    assert finding.level is Level.ERROR
    assert finding.remedy is not None
    assert "KUBECONFIG" in finding.remedy


async def _never_ready(harness: KubernetesHarness, provisioner: Any, spec: Any) -> None:
    ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
    await harness.runs(spec.name, ready=False)
    await ensuring


async def test_within_a_cluster_the_service_account_of_moorage_counts(
    harness: KubernetesHarness,
    kubernetes: Kubernetes,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = yaml.safe_load(kubernetes.account(namespace, written(NEEDED), tmp_path / "kubeconfig").read_text())
    cluster, token, ca = account["clusters"][0]["cluster"], tmp_path / "token", tmp_path / "ca.crt"
    token.write_text(account["users"][0]["user"]["token"])
    ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    server = urlsplit(cluster["server"])
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    monkeypatch.setattr("kubernetes_asyncio.config.incluster_config.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr("kubernetes_asyncio.config.incluster_config.SERVICE_CERT_FILENAME", str(ca))
    provisioner = harness.provisioner_with(kubeconfig=None)

    made = await provisioner.ensure(harness.spec(), ignore)

    assert await provisioner.list() == [made]
