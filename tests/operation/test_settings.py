"""Settings come from the environment, and mistakes in them are named."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from consumer.app import _limits
from consumer.catalog.errors import CatalogError
from consumer.parts import ConfigurationError, catalog_of, connection_of, provisioners_of, topics_of
from consumer.settings import TERMINATION_GRACE, Settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def test_everything_has_a_default() -> None:
    settings = Settings()
    assert catalog_of(settings).runtimes == {"process"}
    assert topics_of(settings).inbound == ("reservation-events",)


@pytest.mark.parametrize("runtime", ["docker", "kubernetes"])
def test_logins_that_cannot_be_read_are_named(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigurationError, match=r"MOORAGE_REGISTRY_CREDENTIALS: Cannot read .*No such file"):
        provisioners_of(Settings(registry_credentials=path), frozenset({runtime}))
    path.write_text('{"auths": []}')
    with pytest.raises(ConfigurationError, match=r"MOORAGE_REGISTRY_CREDENTIALS: config\.json is not"):
        provisioners_of(Settings(registry_credentials=path), frozenset({runtime}))


def test_lists_and_pairs_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_TOPICS", "a, b,")
    monkeypatch.setenv("MOORAGE_RUNTIME_CONCURRENCY", "docker=5, process=2")
    settings = Settings()
    assert settings.inbound_topics == ("a", "b")
    assert settings.runtime_concurrency == {"docker": 5, "process": 2}


def test_what_a_users_namespace_is_bounded_by_is_written_with_commas_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_KUBERNETES_USER_QUOTA", "pods=5, requests.nvidia.com/gpu=1,services.loadbalancers=0")
    monkeypatch.setenv("MOORAGE_KUBERNETES_USER_LIMITS", "")
    settings = Settings()
    quota = {"pods": "5", "requests.nvidia.com/gpu": "1", "services.loadbalancers": "0"}
    assert (settings.user_quota, settings.user_limits) == (quota, {})


def test_a_namespace_whose_name_leaves_no_room_for_users_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_KUBERNETES_NAMESPACE_PER_USER", "true")
    monkeypatch.setenv("K8S_NAMESPACE", "x" * 40)
    with pytest.raises(ConfigurationError, match=r"K8S_NAMESPACE cannot be used: .* 39 characters"):
        provisioners_of(Settings(), frozenset({"kubernetes"}))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MOORAGE_RUNTIME_CONCURRENCY", "docke=5", "unknown runtime docke"),
        ("MOORAGE_RUNTIME_CONCURRENCY", "docker", "name=count"),
        ("MOORAGE_RUNTIME_CONCURRENCY", "docker=0", "at least 1"),
        ("MOORAGE_RUNTIME_CONCURRENCY", "gpu-1=5", "unknown runtime gpu-1"),
        ("MOORAGE_KUBERNETES_USER_QUOTA", "pods", '"pods" is not of the form name=quantity'),
        ("MOORAGE_KUBERNETES_USER_QUOTA", "pod=20", '"pod" cannot be bounded; use configmaps, '),
        ("MOORAGE_KUBERNETES_USER_QUOTA", "pods=many", '"many" is no quantity for pods'),
        ("MOORAGE_KUBERNETES_USER_LIMITS", "pods=20", '"pods" cannot be bounded; use cpu, ephemeral-storage, memory'),
        ("MOORAGE_KUBERNETES_POD_SECURITY", "strict", "'restricted', 'baseline' or 'privileged'"),
        ("MOORAGE_TOPICS", " , ", "MOORAGE_TOPICS names no topic"),
        ("MOORAGE_CONCURRENCY", "0", "greater than or equal to 1"),
        ("CONTAINER_RUNTIME", "dokcer", "process"),
        ("MOORAGE_QUOTA_USER_ENVIRONMENTS", "0", "greater than or equal to 1"),
        ("MOORAGE_INSTANCE", "a b", "should match pattern"),
        ("MOORAGE_DRAIN_TIMEOUT", "59", "Use 45 or less"),
        ("MOORAGE_TIME_ZONE", "Europe/Rom", "'Europe/Rom' is not a time zone; did you mean Europe/Rome?"),
        ("MOORAGE_TIME_ZONE", "Europe", "'Europe' is not a time zone"),
        ("MOORAGE_TIME_ZONE", "+01:00", "is not a time zone; write an IANA name such as Europe/Rome"),
        ("MOORAGE_TIME_ZONE", "../../etc/passwd", "is not a time zone"),
        ("MOORAGE_TIME_ZONE", "/etc/passwd", "is not a time zone"),
        ("MOORAGE_TIME_ZONE", "", "is not a time zone"),
        ("MOORAGE_TIME_ZONE", "x" * 5000, "is not a time zone"),
    ],
)
def test_a_mistake_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=says):
        Settings()


def test_times_are_told_in_the_zone_of_whoever_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(Settings().time_zone) == "UTC"
    monkeypatch.setenv("MOORAGE_TIME_ZONE", " Europe/Rome ")
    assert str(Settings().time_zone) == "Europe/Rome"
    assert '"Europe/Rome"' in Settings().model_dump_json()


def test_zones_are_known_where_the_system_has_none() -> None:
    program = "from zoneinfo import *; print(TZPATH, ZoneInfo('Europe/Rome'))"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], env={"PYTHONTZPATH": ""}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("() Europe/Rome\n", "")


def test_quotas_without_a_template_file_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not catalog_of(Settings()).quotas
    monkeypatch.setenv("MOORAGE_QUOTA_USER_ENVIRONMENTS", "2")
    monkeypatch.setenv("MOORAGE_QUOTA_TOTAL_ENVIRONMENTS", "50")
    monkeypatch.setenv("MOORAGE_QUOTA_QUEUE", "true")
    quotas = catalog_of(Settings()).quotas.common
    assert (quotas.user.environments, quotas.total.environments, quotas.queue) == (2, 50, True)


@pytest.mark.parametrize("network", ["host", "none", "container:x", "a b"])
def test_no_network_of_the_hosts_can_be_chosen(monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    monkeypatch.setenv("MOORAGE_DOCKER_NETWORK", network)
    with pytest.raises(ConfigurationError, match="MOORAGE_DOCKER_NETWORK"):
        provisioners_of(Settings(), frozenset({"docker"}))


def test_the_default_image_gets_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_RUNTIME", "docker")
    monkeypatch.setenv("DEFAULT_CAPABILITIES", "CHOWN, SYS_ADMIN")
    with pytest.raises(CatalogError, match="SYS_ADMIN"):
        catalog_of(Settings())


def test_stopping_fits_into_the_grace_that_deployments_give() -> None:
    assert Settings().drain_timeout < TERMINATION_GRACE


def test_a_password_is_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("OPENSTACK_PASSWORD", "hunter2")
    settings = Settings()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()
    assert "hunter2" not in repr(connection_of(settings))
    assert connection_of(settings).sasl_password == "hunter2"


def test_a_runtime_that_is_not_there_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_RUNTIME", "openstack")
    settings = Settings()
    with pytest.raises(ConfigurationError, match="does not provide the runtime openstack"):
        provisioners_of(settings, catalog_of(settings).runtimes)


def test_a_namespace_that_cannot_be_one_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8S_NAMESPACE", "Labs/2026")
    with pytest.raises(ConfigurationError, match="K8S_NAMESPACE cannot be used: namespace 'Labs/2026' is none"):
        provisioners_of(Settings(), frozenset({"kubernetes"}))


def test_pods_have_no_capabilities_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_RUNTIME", "kubernetes")
    (template,) = catalog_of(Settings()).templates
    assert template.security is None or template.security.capabilities == ()
    monkeypatch.setenv("DEFAULT_CAPABILITIES", "NET_BIND_SERVICE")
    (template,) = catalog_of(Settings()).templates
    assert template.security is not None
    assert template.security.capabilities == ("NET_BIND_SERVICE",)


def test_a_template_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_TEMPLATES", "/nowhere/templates.yaml")
    with pytest.raises(ConfigurationError, match=r"Cannot read MOORAGE_TEMPLATES /nowhere/templates\.yaml"):
        catalog_of(Settings())


ENGINES = """version: 1
engines:
  - {name: here, runtime: docker, url: "unix:///run/other.sock", capacity: 2}
  - {name: gpu, runtime: docker, url: "tcp://gpu.lab:2376", capacity: 8, bind_host: 0.0.0.0}
  - {name: told, runtime: docker, url: "tcp://told.lab:2376", capacity: 8, public_host: told.example.org}
templates:
  - {name: pool, match: {type: Pool}, runtime: docker, engines: [here, gpu, told], image: nginx}
"""


def engines(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str = ENGINES) -> Settings:
    path = folder / "templates.yaml"
    path.write_text(text)
    monkeypatch.setenv("MOORAGE_TEMPLATES", str(path))
    monkeypatch.setenv("MOORAGE_PUBLIC_HOST", "lab.example.org")
    monkeypatch.setenv("MOORAGE_RUNTIME_CONCURRENCY", "docker=7,docker@gpu=3")
    return Settings()


def test_each_engine_of_the_file_is_a_runtime_with_its_own_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = engines(monkeypatch, tmp_path)
    found = provisioners_of(settings, catalog_of(settings).runtimes)
    assert {name: each.runtime for name, each in found.items()} == {name: name for name in found}
    options = {name: each._options for name, each in found.items()}  # type: ignore[attr-defined]
    assert {name: (each.url, each.bind_host, each.public_host) for name, each in options.items()} == {
        "docker@here": ("unix:///run/other.sock", "127.0.0.1", "lab.example.org"),
        "docker@gpu": ("tcp://gpu.lab:2376", "0.0.0.0", "gpu.lab"),  # noqa: S104
        "docker@told": ("tcp://told.lab:2376", "127.0.0.1", "told.example.org"),
    }


def test_an_engine_has_the_limit_of_its_kind_unless_it_has_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = engines(monkeypatch, tmp_path)
    limits = dict(_limits(settings, catalog_of(settings).runtimes).per_group)
    assert limits == {"docker": 7, "docker@gpu": 3, "docker@here": 7, "docker@told": 7}


def test_an_engine_that_is_no_longer_listed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = engines(monkeypatch, tmp_path)
    with pytest.raises(ConfigurationError, match="There is no engine docker@gone in the template file"):
        provisioners_of(settings, frozenset({"docker@gone"}))


def test_certificates_that_are_not_there_are_named_with_their_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = ENGINES.replace("capacity: 8, bind", f"capacity: 8, tls: {tmp_path}, bind")
    settings = engines(monkeypatch, tmp_path, text)
    with pytest.raises(ConfigurationError, match=r"The tls of docker@gpu .*must have ca\.pem"):
        provisioners_of(settings, catalog_of(settings).runtimes)


def test_one_engine_cannot_have_two_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://gpu.lab:2376/")
    assert catalog_of(engines(monkeypatch, tmp_path)).engines  # no template uses it as DOCKER_HOST
    text = ENGINES + "  - {name: other, runtime: docker, image: nginx}\n"
    with pytest.raises(ConfigurationError, match="DOCKER_HOST and docker@gpu are the same engine"):
        catalog_of(engines(monkeypatch, tmp_path, text))


CLUSTERS = """version: 1
engines:
  - {name: here, runtime: kubernetes, namespace: labs-2, capacity: 2}
  - {name: other, runtime: kubernetes, context: other, service: load-balancer, capacity: 2}
  - {name: far, runtime: kubernetes, kubeconfig: /etc/far,
     public_host: far.example.org, public_server: "https://far.example.org", storage_class: far, capacity: 1}
templates:
  - {name: pool, match: {type: Pool}, runtime: kubernetes, engines: [here, other, far], image: nginx}
"""
OURS = "  - {name: rest, runtime: kubernetes, image: nginx}\n"


def clusters(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str = CLUSTERS) -> Settings:
    monkeypatch.setenv("KUBECONFIG", "/etc/ours")
    monkeypatch.setenv("MOORAGE_KUBERNETES_CONTEXT", "ours")
    monkeypatch.setenv("MOORAGE_KUBERNETES_SERVICE", "node-port")
    monkeypatch.setenv("MOORAGE_KUBERNETES_PUBLIC_SERVER", "https://lab.example.org")
    monkeypatch.setenv("K8S_NAMESPACE", "labs")
    return engines(monkeypatch, folder, text)


def test_each_cluster_of_the_file_is_a_runtime_and_what_it_leaves_out_is_that_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = clusters(monkeypatch, tmp_path, CLUSTERS + OURS)
    found = provisioners_of(settings, catalog_of(settings).runtimes)
    assert {name: each.runtime for name, each in found.items()} == {name: name for name in found}
    options = {name: each._options for name, each in found.items()}  # type: ignore[attr-defined]
    assert {name: (each.kubeconfig, each.context, each.namespace) for name, each in options.items()} == {
        "kubernetes": ("/etc/ours", "ours", "labs"),
        "kubernetes@here": ("/etc/ours", "ours", "labs-2"),
        "kubernetes@other": ("/etc/ours", "other", "labs"),
        "kubernetes@far": ("/etc/far", None, "labs"),
    }
    assert {name: (each.service, each.public_host, each.storage_class) for name, each in options.items()} == {
        "kubernetes": ("node-port", "lab.example.org", None),
        "kubernetes@here": ("node-port", "lab.example.org", None),
        "kubernetes@other": ("load-balancer", None, None),
        "kubernetes@far": ("node-port", "far.example.org", "far"),
    }
    assert {name: each.public_server for name, each in options.items()} == {
        "kubernetes": "https://lab.example.org",
        "kubernetes@here": "https://lab.example.org",
        "kubernetes@other": None,
        "kubernetes@far": "https://far.example.org",
    }


def test_a_cluster_may_have_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = clusters(monkeypatch, tmp_path)
    monkeypatch.setenv("MOORAGE_RUNTIME_CONCURRENCY", "kubernetes=9,kubernetes@far=3")
    limits = dict(_limits(Settings(), catalog_of(settings).runtimes).per_group)
    assert limits["kubernetes@far"] == 3
    assert limits["kubernetes@here"] == limits["kubernetes@other"] == 9


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("namespace: labs-2", "namespace: labs", "kubernetes@here and kubernetes are the same namespace of the same"),
        ("context: other", "kubeconfig: /etc/ours, context: ours", "kubernetes@other and kubernetes are"),
        ("context: other", "context: ours, namespace: labs-2", "kubernetes@other and kubernetes@here are"),
    ],
)
def test_one_cluster_cannot_have_two_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        catalog_of(clusters(monkeypatch, tmp_path, (CLUSTERS + OURS).replace(old, new)))


def test_with_a_namespace_for_each_user_no_clusters_namespace_may_look_like_a_users_of_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOORAGE_KUBERNETES_NAMESPACE_PER_USER", "true")
    with pytest.raises(ConfigurationError, match="The namespaces labs and labs-2 of one cluster cannot be told apart"):
        catalog_of(clusters(monkeypatch, tmp_path, CLUSTERS + OURS))
    long = CLUSTERS.replace("labs-2", "x" * 40)
    settings = clusters(monkeypatch, tmp_path, long)
    with pytest.raises(ConfigurationError, match=r"The namespace of kubernetes@here cannot be used: .* 39 characters"):
        provisioners_of(settings, catalog_of(settings).runtimes)


def test_the_cluster_of_the_settings_may_be_in_a_pool_that_all_templates_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = CLUSTERS.replace("namespace: labs-2", "namespace: labs")
    assert "kubernetes@here" in catalog_of(clusters(monkeypatch, tmp_path, text)).runtimes
