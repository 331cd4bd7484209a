"""Engines and clusters of a pool: what operators write, and what a template makes of it."""

from pathlib import Path

import pytest

from consumer.catalog.errors import CatalogError
from consumer.catalog.quotas import Account, Holding, Usage
from consumer.catalog.templates import Catalog
from tests.catalog.reservations import catalog, reservation

TWO = """engines:
  - {name: gpu-1, runtime: docker, url: "tcp://gpu-1.lab:2376", tls: /etc/tls, capacity: 8, public_host: one.example}
  - {name: gpu-2, runtime: docker, url: "ssh://moorage@gpu-2.lab", capacity: 4, bind_host: 0.0.0.0}
  - {name: pods, runtime: podman, url: "unix:///run/podman.sock", capacity: 2}
"""

CLUSTERS = """engines:
  - {name: east, runtime: kubernetes, capacity: 8}
  - name: west
    runtime: kubernetes
    kubeconfig: /etc/moorage/west
    context: admin@west
    namespace: labs
    public_host: west.example.org
    service: node-port
    storage_class: fast.ssd
    capacity: 4
"""


def problem(template: str = "", top: str = TWO) -> str:
    with pytest.raises(CatalogError) as caught:
        catalog(template, top=top)
    (only,) = caught.value.problems
    return only.split(": ", 1)[1]


def engine(**keys: str) -> str:
    usual = {"name": "a", "runtime": "docker", "url": "tcp://a:2376", "capacity": "8"}
    if keys.get("runtime") == "kubernetes":
        del usual["url"]
    written = ", ".join(f'{key}: "{value}"' for key, value in (usual | keys).items() if value)
    return f"engines: [{{{written}}}]"


def cluster(**keys: str) -> str:
    return engine(runtime="kubernetes", **keys)


TWICE = f"{CLUSTERS}  - {{name: again, runtime: kubernetes, capacity: 1}}\n"


def test_a_template_may_use_the_engines_it_names_and_no_others() -> None:
    found = catalog("engines: [gpu-2, gpu-1]", top=TWO)
    assert found.templates[0].runtimes == ("docker@gpu-2", "docker@gpu-1")
    assert found.resolve(reservation()).runtimes == ("docker@gpu-2", "docker@gpu-1")
    assert found.needs("docker@gpu-1").images == (("lab", "nginx:1.27"),)
    assert found.needs("docker").images == ()


def test_engines_are_runtimes_whether_templates_use_them_or_not() -> None:
    assert catalog("", top=TWO).runtimes == {"docker", "docker@gpu-1", "docker@gpu-2", "podman@pods"}
    assert catalog("engines: [gpu-1]", top=TWO).runtimes == {"docker@gpu-1", "docker@gpu-2", "podman@pods"}


def test_an_engine_is_what_was_written() -> None:
    engines = catalog("", top=TWO).engines
    first, second, pods = (engines[name] for name in ("docker@gpu-1", "docker@gpu-2", "podman@pods"))
    assert (first.url, first.tls, first.capacity) == ("tcp://gpu-1.lab:2376", Path("/etc/tls"), 8)
    assert (first.public_host, first.bind_host, first.host) == ("one.example", None, "gpu-1.lab")
    assert (second.public_host, second.bind_host, second.host) == (None, "0.0.0.0", "gpu-2.lab")  # noqa: S104
    assert (pods.host, pods.runtime) == (None, "podman")


def test_a_cluster_is_what_was_written_and_left_to_the_settings_otherwise() -> None:
    found = catalog("runtime: kubernetes, engines: [east, west]", top=CLUSTERS)
    assert found.templates[0].runtimes == ("kubernetes@east", "kubernetes@west")
    assert found.runtimes == {"kubernetes@east", "kubernetes@west"}
    east, west = (found.engines[name] for name in ("kubernetes@east", "kubernetes@west"))
    assert (east.kubeconfig, east.context, east.namespace, east.service) == (None, None, None, None)
    assert (east.public_host, east.storage_class, east.capacity, east.host) == (None, None, 8, None)
    assert (west.kubeconfig, west.context, west.namespace) == (Path("/etc/moorage/west"), "admin@west", "labs")
    assert (west.public_host, west.service, west.storage_class) == ("west.example.org", "node-port", "fast.ssd")


def test_the_engine_makes_no_other_environment_of_it() -> None:
    """What was made before there was a pool is adopted, and so is what another member made on any engine of it."""
    alone, pooled = catalog("").resolve(reservation()), catalog("engines: [gpu-1]", top=TWO).resolve(reservation())
    assert alone.spec_hash == pooled.spec_hash
    assert alone.runtimes == ("docker",)


def test_capacities_bound_what_quotas_do_not() -> None:
    assert not catalog("").quotas
    rules = catalog("", top=TWO).quotas
    assert rules
    assert rules.capacities == {"docker@gpu-1": 8, "docker@gpu-2": 4, "podman@pods": 2}
    assert Account(None, None, "docker@gpu-1") in Holding("ann", "lab", Usage(1), ("docker@gpu-1",)).accounts
    assert len(Holding("ann", "lab", Usage(1), ("docker@gpu-1", "docker@gpu-2")).accounts) == 4


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("engines: [gpu-3]", 'templates[0].engines[0] (template "lab"): "gpu-3" is not an engine; did you mean "gpu-'),
        ("engines: [gpu-1, pods]", '"pods" is an engine of podman, and the template\'s runtime docker: use'),
        (
            "runtime: kubernetes, engines: [gpu-1]",
            '"gpu-1" is an engine of docker, and the template\'s runtime kubernetes: use engines of one kind',
        ),
        ("engines: [gpu-1, gpu-1]", "names an engine twice"),
        ("engines: []", "is an empty list"),
        ("runtime: process, engines: [gpu-1]", "engines"),
        (
            "engines: [gpu-1, gpu-2], volume: {path: /data, scope: user}",
            "a user's volume is on one engine, and their next environment may be on another: name one engine",
        ),
    ],
)
def test_what_a_template_says_wrongly_of_engines_is_named_with_its_remedy(template: str, says: str) -> None:
    assert says in problem(template)


def test_an_engine_of_a_file_without_engines_is_explained() -> None:
    assert '"gpu-1" is not an engine: add `engines`, each with where it is and a capacity' in problem(
        "engines: [gpu-1]", top=""
    )


@pytest.mark.parametrize(
    ("top", "says"),
    [
        (engine(name="GPU 1"), 'engines[0].name: "GPU 1" is not a name: use lower-case letters'),
        (engine(name="a@b"), '"a@b" is not a name'),
        (engine(name=""), "engines[0].name: is missing: add it"),
        (engine(runtime="process"), "engines[0].runtime: should be 'docker', 'podman' or 'kubernetes'"),
        (engine(url=""), "engines[0].url: is missing"),
        (engine(url="gpu-1:2376"), "is not an address such as unix:///run/docker.sock"),
        (engine(url="tcp://gpu-1:port"), "has no host and port that can be read"),
        (engine(url="tcp://user:secret@gpu-1:2376"), "holds a login: the file is no place for one"),
        (engine(url="https://user@gpu-1:2376"), "holds a login"),
        (engine(capacity=""), "engines[0].capacity: is missing"),
        (engine(capacity="0"), '"0" is not a number of environments'),
        (engine(capacity="many"), '"many" is not a number of environments'),
        (engine(tls="certs"), '"certs" is not an absolute path'),
        (engine(url="unix:///run/docker.sock", tls="/certs"), "is for an engine on TCP"),
        (engine(public_host="https://x/"), '"https://x/" is neither a host name nor an address'),
        (engine(bind_host="-o"), '"-o" is neither a host name nor an address'),
        (engine(password="secret"), "engines[0].password: is not known"),
        (engine(kubeconfig="/x"), "kubeconfig: is for clusters (kubernetes), and the runtime is docker: leave it out"),
        (engine(runtime="podman", namespace="x"), "namespace: is for clusters (kubernetes), and the runtime is podman"),
        (cluster(url="https://east:6443"), "url: is for container engines, and the runtime is kubernetes: leave it"),
        (cluster(tls="/etc/tls"), "tls: is for container engines"),
        (cluster(bind_host="0.0.0.0"), "bind_host: is for container engines"),  # noqa: S104
        (cluster(kubeconfig="~/.kube/config"), "is not an absolute path"),
        (cluster(namespace="Labs"), '"Labs" is not a namespace: use lower-case letters'),
        (cluster(context=" "), "context: is empty"),
        (cluster(storage_class="fast/ssd"), '"fast/ssd" is not the name of an object of a cluster'),
        (cluster(public_server="http://x"), '"http://x" is not the URL of an API server'),
        (cluster(service="ingress"), "engines[0].service: should be 'cluster', 'node-port' or 'load-balancer'"),
        (cluster(capacity=""), "engines[0].capacity: is missing"),
        (cluster(contxt="x"), 'engines[0].contxt: is not known; did you mean "context"?'),
        (TWICE, 'has "east" and "again" with the same kubeconfig, context and namespace: that is one cluster, so give'),
        (TWO.replace("gpu-2", "gpu-1"), 'has 2 engines with the name "gpu-1"'),
        (TWO.replace("ssh://moorage@gpu-2.lab", "tcp://gpu-1.lab:2376/"), "has 2 engines with the url"),
    ],
)
def test_what_is_wrong_with_an_engine_is_named_with_its_remedy(top: str, says: str) -> None:
    told = problem(top=top)
    assert says in told
    assert "secret" not in told


def test_a_pool_needs_no_more_than_this() -> None:
    text = f"version: 1\n{TWO}\ntemplates:\n  - {{name: x, runtime: docker, engines: [gpu-1, gpu-2], image: nginx}}\n"
    assert Catalog.from_yaml(text, instance="test").templates[0].engines == ("gpu-1", "gpu-2")
