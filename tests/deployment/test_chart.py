"""The Helm chart, rendered by Helm, and the manifests that are made from it."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from consumer.catalog.needs import Needs
from consumer.catalog.routes import Gateway, Ingress
from consumer.provisioners.kubernetes.names import labels_for
from consumer.provisioners.kubernetes.permissions import (
    HTTP_ROUTES,
    INGRESS_CLASSES,
    INGRESSES,
    KUBECONFIGS,
    NEEDED,
    WELCOME,
    Rule,
    everywhere_for,
    in_users_for,
    to_be_let_in,
)
from consumer.settings import TERMINATION_GRACE, Settings
from tests.provisioners.kubernetes.harness import KubernetesHarness
from tools.manifests import CHART, LEAST_KUBERNETES, MANIFESTS, manifests, rendered

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PER_USER = ("--set=environments.perUser=true", "--kube-version=1.30.0")
SETTINGS = {str(field.validation_alias) for field in Settings.model_fields.values()}


def objects(helm: str, *options: str, release: str = "moorage") -> dict[tuple[str, str], Any]:
    """By kind and name."""
    text = rendered(helm, options, release=release)
    found = [each for each in yaml.safe_load_all(text) if each is not None]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def refusal(helm: str, *options: str) -> str:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered(helm, options)
    return str(refused.value.stderr)


def scalars(made: Any) -> Iterator[Any]:
    match made:
        case dict():
            for value in made.values():
                yield from scalars(value)
        case list():
            for value in made:
                yield from scalars(value)
        case _:
            yield made


def allowed_by(rules: list[dict[str, list[str]]]) -> set[tuple[str, ...]]:
    return {
        (group, kind, verb, *rule.get("resourceNames", ()))
        for rule in rules
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }


def asked_for(*rules: Rule) -> set[tuple[str, ...]]:
    named = {rule: (rule.name,) if rule.name else () for rule in rules}
    return {(rule.group, rule.resource, verb, *named[rule]) for rule in rules for verb in rule.verbs}


def undescribed(values: Any, schema: Any, at: str = "") -> Iterator[str]:
    """What stands in the values and not in the schema, or the other way round, where the schema names its parts."""
    if not isinstance(values, dict) or "$ref" in schema or schema.get("additionalProperties") is not False:
        return
    described = {name for name in schema["properties"] if (at, name) != ("", "global")}  # Helm's own
    yield from (f"{at}{name}" for name in values.keys() ^ described)
    for name in values.keys() & described:
        yield from undescribed(values[name], schema["properties"][name], f"{at}{name}.")


def test_the_chart_has_nothing_that_helm_complains_of(helm: str) -> None:
    command = [helm, "lint", "--strict", LEAST_KUBERNETES, str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - a fixed command
    assert done.returncode == 0, done.stdout


def test_members_may_do_what_moorage_needs_and_no_more() -> None:
    """What it needs, tests.provisioners.kubernetes compares with what an API server is asked for."""
    rules = yaml.safe_load((CHART / "rules.yaml").read_text())
    assert allowed_by(rules) == asked_for(*NEEDED, *WELCOME)


@pytest.mark.parametrize(("value", "rule"), [("ingress", INGRESSES), ("gateway", HTTP_ROUTES)])
def test_members_may_make_what_leads_to_pages_where_templates_want_it(helm: str, value: str, rule: Rule) -> None:
    made = objects(helm, f"--set=environments.{value}=true")
    assert allowed_by(made["Role", "moorage"]["rules"]) == asked_for(*NEEDED, *WELCOME, rule)
    everywhere = made.get(("ClusterRole", "moorage-moorage"), {"rules": []})
    assert allowed_by(everywhere["rules"]) == (asked_for(INGRESS_CLASSES) if rule is INGRESSES else set())
    assert not {"ClusterRole", "ClusterRoleBinding"} & {kind for kind, _ in objects(helm)}


@pytest.mark.parametrize(
    ("values", "needs"),
    [
        ((), Needs()),
        (("--set=environments.ingress=true",), Needs(routes=(("web", Ingress(host="{name}.x")),))),
        (("--set=environments.gateway=true",), Needs(routes=(("web", Gateway(host="{name}.x", name="x")),))),
        (("--set=environments.userKubeconfigs=true",), Needs(kubeconfigs=frozenset({"web"}))),
    ],
)
def test_with_a_namespace_for_each_user_too(helm: str, values: tuple[str, ...], needs: Needs) -> None:
    made = objects(helm, *PER_USER, *values)
    everywhere, users = "moorage-moorage-everywhere", "moorage-moorage-environments"
    assert allowed_by(made["ClusterRole", everywhere]["rules"]) == asked_for(
        *everywhere_for(needs), *to_be_let_in(users)
    )
    assert allowed_by(made["ClusterRole", users]["rules"]) == asked_for(*in_users_for(needs))
    settings = made["ConfigMap", "moorage-settings"]["data"]
    assert settings.keys() <= SETTINGS
    assert settings["MOORAGE_KUBERNETES_NAMESPACE_PER_USER"] == "true"
    assert settings["MOORAGE_KUBERNETES_USER_ROLE"] == users
    assert settings["MOORAGE_KUBERNETES_POD_SECURITY"] == "restricted"


def test_a_cluster_that_cannot_keep_moorage_to_its_namespaces_and_a_name_too_long_to_begin_with_are_refused(
    helm: str,
) -> None:
    assert "needs Kubernetes 1.30" in refusal(helm, *PER_USER[:1])
    assert "may have 39 characters" in refusal(helm, *PER_USER, f"--set=environments.namespace={'x' * 40}")


def test_members_may_give_out_kubeconfigs_only_where_that_is_wanted(helm: str) -> None:
    role = objects(helm, "--set=environments.userKubeconfigs=true")["Role", "moorage"]
    assert allowed_by(role["rules"]) == asked_for(*NEEDED, *WELCOME, *KUBECONFIGS)
    assert allowed_by(objects(helm)["Role", "moorage"]["rules"]) == asked_for(*NEEDED, *WELCOME)


def test_the_manifests_are_what_the_chart_comes_to(helm: str) -> None:
    assert MANIFESTS.read_text() == manifests(helm)


def test_every_value_is_in_the_schema_and_no_other() -> None:
    assert list(undescribed(VALUES, SCHEMA)) == []


def test_every_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    named = [number for number, line in enumerate(lines) if re.match("[a-zA-Z]", line)]
    bare = [lines[at] for at in named if not any(lines[beside].strip().startswith("#") for beside in (at - 1, at + 1))]
    assert bare == ["tolerations: []", 'priorityClassName: ""', "podAnnotations: {}"]  # as pods have them


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("replica=3", "replica"),
        ("environments.podSecurity=privileged", "podSecurity"),
        ("settings.KAFKA_SASL_PASSWORD=secret", "settings"),
        ("settings.MOORAGE_KUBERNETES_USER_ROLE=admin", "settings"),
        ("environments.perUser=yes", "perUser"),
        ("settings.moorage_group=ours", "moorage_group"),
        ("httpPort=80", "httpPort"),
        ("environments.namespace=Environments", "namespace"),
        ("keda.minReplicas=0", "minReplicas"),
        ("httpHost=", "httpHost"),
    ],
)
def test_a_value_that_means_nothing_or_may_not_be_is_refused_by_name(helm: str, option: str, why: str) -> None:
    assert why in refusal(helm, f"--set={option}")


def test_every_setting_that_the_chart_writes_is_one(helm: str) -> None:
    data = objects(helm, "--set=templates=version: 1")["ConfigMap", "moorage-settings"]["data"]
    assert data.keys() <= SETTINGS
    assert data["MOORAGE_TEMPLATES"] == "/etc/moorage/templates/templates.yaml"
    assert data["MOORAGE_HTTP_HOST"] == "0.0.0.0"  # noqa: S104 - in a pod, where probes come from outside


def test_members_listen_where_probes_come_from(helm: str) -> None:
    assert objects(helm, "--set=httpHost=::")["ConfigMap", "moorage-settings"]["data"]["MOORAGE_HTTP_HOST"] == "::"


def test_a_member_has_the_time_to_stop_that_settings_count_on(helm: str) -> None:
    pod = objects(helm)["Deployment", "moorage"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == TERMINATION_GRACE


def test_secrets_come_from_a_secret(helm: str) -> None:
    made = objects(helm, "--set=secretSettings=kafka-login")
    container = made["Deployment", "moorage"]["spec"]["template"]["spec"]["containers"][0]
    assert {"secretRef": {"name": "kafka-login"}} in container["envFrom"]


def test_files_that_settings_name_come_from_a_secret_beside_the_templates(helm: str) -> None:
    made = objects(helm, "--set=secretFiles=files", "--set=templates=version: 1")
    pod = made["Deployment", "moorage"]["spec"]["template"]["spec"]
    mounts = {each["name"]: each for each in pod["containers"][0]["volumeMounts"]}
    assert {"name": "secrets", "secret": {"secretName": "files", "defaultMode": 0o440}} in pod["volumes"]
    assert mounts["secrets"] == {"name": "secrets", "mountPath": "/etc/moorage/secrets", "readOnly": True}
    assert mounts["templates"]["mountPath"] == "/etc/moorage/templates"
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}


def test_other_settings_start_members_anew(helm: str) -> None:
    def checksum(*options: str) -> str:
        template = objects(helm, *options)["Deployment", "moorage"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert checksum() == checksum()
    assert len({checksum(), checksum("--set=settings.MOORAGE_GROUP=ours"), checksum("--set=templates=version: 1")}) == 3


def test_keda_scales_by_the_lag_of_every_topic(helm: str) -> None:
    options = (
        "--set=keda.enabled=true",
        r"--set=settings.MOORAGE_TOPICS=labs\, exams",
        "--set=settings.MOORAGE_GROUP=g",
    )
    made = objects(helm, *options, "--set=keda.authentication=kafka-login")
    triggers = made["ScaledObject", "moorage"]["spec"]["triggers"]
    assert [(each["metadata"]["topic"], each["metadata"]["consumerGroup"]) for each in triggers] == [
        ("labs", "g"),
        ("exams", "g"),
    ]
    assert {each["authenticationRef"]["name"] for each in triggers} == {"kafka-login"}
    assert {each["metadata"]["excludePersistentLag"] for each in triggers} == {"true"}
    assert made["ScaledObject", "moorage"]["spec"]["scaleTargetRef"] == {"name": "moorage"}
    assert "replicas" not in made["Deployment", "moorage"]["spec"]


def test_keda_is_not_left_without_a_login_where_moorage_has_one(helm: str) -> None:
    options = ("--set=keda.enabled=true", "--set=settings.KAFKA_SECURITY_PROTOCOL=SASL_SSL")

    assert "keda.authentication is missing" in refusal(helm, *options)
    assert ("ScaledObject", "moorage") in objects(helm, *options, "--set=keda.authentication=kafka-login")


def test_prometheus_finds_every_member(helm: str) -> None:
    made = objects(helm, "--set=serviceMonitor.enabled=true", "--set=serviceMonitor.labels.release=prometheus")
    monitor, service = made["ServiceMonitor", "moorage"], made["Service", "moorage"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_what_is_switched_off_is_not_there(helm: str) -> None:
    values = ("environments.create", "environments.networkPolicy", "networkPolicy.enabled")
    off = [f"--set={value}=false" for value in values]
    kinds = {kind for kind, _ in objects(helm, *off, "--set=environments.quota=null", "--set=environments.limits=null")}
    assert not kinds & {"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "ScaledObject", "ServiceMonitor"}


def test_a_pod_that_has_lost_its_own_network_policy_is_kept_in(helm: str) -> None:
    made = objects(helm, "--set=environments.namespace=labs")
    policy = made["NetworkPolicy", "moorage-environments"]
    wanted = policy["spec"]["podSelector"]["matchLabels"].items()
    moorages = made["Deployment", "moorage"]["spec"]["template"]["metadata"]["labels"]
    assert policy["metadata"]["namespace"] == "labs"
    assert policy["spec"].keys() == {"podSelector", "policyTypes"}  # lets nothing in or out
    assert wanted <= labels_for(KubernetesHarness("", "").spec(), "lab").items()
    assert not wanted <= moorages.items(), "which may run in the same namespace"


@pytest.mark.parametrize(("value", "kind"), [("quota", "ResourceQuota"), ("limits", "LimitRange")])
def test_null_takes_bounds_out_and_an_empty_quota_does_not(helm: str, value: str, kind: str) -> None:
    assert (kind, "moorage") in objects(helm, "--set-json=environments.quota={}")
    assert (kind, "moorage") not in objects(helm, f"--set-json=environments.{value}=null")


def test_null_takes_one_line_out_of_the_quota(helm: str) -> None:
    made = objects(helm, r"--set=environments.quota.services\.loadbalancers=null")
    assert made["ResourceQuota", "moorage"]["spec"]["hard"].keys() == VALUES["environments"]["quota"].keys() - {
        "services.loadbalancers"
    }


def test_what_users_have_outlives_the_release(helm: str) -> None:
    namespace = objects(helm)["Namespace", "moorage-environments"]
    assert namespace["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_member_that_is_not_ready_keeps_no_node_from_being_drained(helm: str) -> None:
    assert objects(helm)["PodDisruptionBudget", "moorage"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("name", ["123", "true", "2026-01-31"])
def test_names_that_yaml_takes_for_something_else_stay_text(helm: str, name: str) -> None:
    everywhere = (
        "environments.namespace",
        "secretSettings",
        "secretFiles",
        "priorityClassName",
        "image.pullSecrets[0]",
        "keda.authentication",
        "settings.MOORAGE_GROUP",
        "settings.MOORAGE_TOPICS",
    )
    options = (
        *PER_USER,
        "--set=keda.enabled=true",
        "--set=serviceMonitor.enabled=true",
        "--set=templates=version: 1",
        "--set=environments.ingress=true",
    )

    def others(name: str) -> list[Any]:
        names = [f"--set-string={value}={name}" for value in everywhere]
        made = objects(helm, f"--namespace={name}", *options, *names, release=name)
        return [each for each in scalars(list(made.values())) if not isinstance(each, str)]

    assert others(name) == others("moorage")


def test_two_releases_in_one_cluster_share_no_name(helm: str) -> None:
    def names(release: str) -> set[tuple[str, str]]:
        return set(objects(helm, *PER_USER, f"--set=environments.namespace={release}-environments", release=release))

    assert not names("labs") & names("exams")
