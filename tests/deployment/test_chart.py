"""The Helm chart, rendered by Helm, and the manifests that are made from it."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from consumer.provisioners.kubernetes.permissions import NEEDED, WELCOME
from consumer.settings import TERMINATION_GRACE, Settings
from tools.manifests import CHART, LEAST_KUBERNETES, MANIFESTS, manifests, rendered

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
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
    allowed = {
        (group, kind, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {(rule.group, rule.resource, verb) for rule in (*NEEDED, *WELCOME) for verb in rule.verbs}


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
        ("settings.moorage_group=ours", "moorage_group"),
        ("httpPort=80", "httpPort"),
        ("environments.namespace=Environments", "namespace"),
    ],
)
def test_a_value_that_means_nothing_or_may_not_be_is_refused_by_name(helm: str, option: str, why: str) -> None:
    assert why in refusal(helm, f"--set={option}")


def test_every_setting_that_the_chart_writes_is_one(helm: str) -> None:
    data = objects(helm, "--set=templates=version: 1")["ConfigMap", "moorage-settings"]["data"]
    assert data.keys() <= SETTINGS
    assert data["MOORAGE_TEMPLATES"] == "/etc/moorage/templates.yaml"


def test_a_member_has_the_time_to_stop_that_settings_count_on(helm: str) -> None:
    pod = objects(helm)["Deployment", "moorage"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == TERMINATION_GRACE


def test_secrets_come_from_a_secret(helm: str) -> None:
    made = objects(helm, "--set=secretSettings=kafka-login")
    container = made["Deployment", "moorage"]["spec"]["template"]["spec"]["containers"][0]
    assert {"secretRef": {"name": "kafka-login"}} in container["envFrom"]


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
    assert made["ScaledObject", "moorage"]["spec"]["scaleTargetRef"] == {"name": "moorage"}
    assert "replicas" not in made["Deployment", "moorage"]["spec"]


def test_prometheus_finds_every_member(helm: str) -> None:
    made = objects(helm, "--set=serviceMonitor.enabled=true", "--set=serviceMonitor.labels.release=prometheus")
    monitor, service = made["ServiceMonitor", "moorage"], made["Service", "moorage"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_what_is_switched_off_is_not_there(helm: str) -> None:
    off = ("--set=environments.create=false", "--set=networkPolicy.enabled=false")
    kinds = {kind for kind, _ in objects(helm, *off, "--set=environments.quota=null", "--set=environments.limits=null")}
    assert not kinds & {"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "ScaledObject", "ServiceMonitor"}


def test_two_releases_in_one_cluster_share_no_name(helm: str) -> None:
    def names(release: str) -> set[tuple[str, str]]:
        return set(objects(helm, f"--set=environments.namespace={release}-environments", release=release))

    assert not names("labs") & names("exams")
