"""Template files: what operators get wrong is named with its line and its remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.errors import CatalogError
from consumer.catalog.templates import Catalog, Defaults
from schemas.events import Resource
from tests.catalog.reservations import attempt, catalog, reservation

HEAD = "version: 1\ntemplates:\n"


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(CatalogError) as caught:
        Catalog.from_yaml(text, instance="test")
    assert str(caught.value).isprintable() or "\n" in str(caught.value)
    return caught.value.problems


def problem(template: str, *, top: str = "") -> str:
    """The one problem of a file with one template, without the file's name and line."""
    with pytest.raises(CatalogError) as caught:
        catalog(template, top=top)
    (only,) = caught.value.problems
    return only.split(": ", 1)[1]


def served(match: str, resource: Resource) -> bool:
    return catalog(f"match: {match}").template_for(resource) is not None


@pytest.mark.parametrize(
    "match",
    [
        "{type: Linux container}", "{type: linux CONTAINER}", '{type: "linux*"}', '{type: [VM, "*container"]}',
        '{name: "GPU Server ?"}', '{name: "GPU Server [12]"}', "{id: 12}", "{id: [7, 12]}", "{}",
        '{type: "*", name: "gpu*", id: "1*"}', '{type: " Linux container "}',
    ],
)  # fmt: skip
def test_a_match_serves(match: str) -> None:
    assert served(match, Resource(id="12", name="GPU Server 1", type="Linux container"))


@pytest.mark.parametrize(
    "match", ["{type: Linux}", "{type: container}", "{id: 1}", "{name: GPU}", '{type: "*", name: "CPU*"}', "{id: 012}"]
)
def test_a_match_does_not_serve(match: str) -> None:
    assert not served(match, Resource(id="12", name="GPU Server 1", type="Linux container"))


def test_a_resource_without_a_type_matches_only_what_matches_everything() -> None:
    assert served('{type: "*"}', Resource(id="12"))
    assert not served('{type: "L*"}', Resource(id="12"))


def test_the_first_template_that_matches_counts() -> None:
    several = Catalog.from_yaml(
        f"{HEAD}  - {{name: gpu, match: {{name: GPU*}}, runtime: docker, image: cuda}}\n"
        "  - {name: any, match: {type: '*'}, runtime: podman, image: nginx}\n"
        "  - {name: rest, runtime: process}\n",
        instance="test",
    )
    chosen = [several.template_for(Resource(id="1", name=name)) for name in ("GPU Server", "Lab")]
    assert [template.name for template in chosen if template] == ["gpu", "any"]
    assert several.runtimes == {"docker", "podman", "process"}
    assert [template.name for template in several.templates] == ["gpu", "any", "rest"]


def test_every_problem_is_named_with_its_line() -> None:
    text = (
        "version: 1\n"
        "templates:\n"
        "  - name: linux\n"
        "    runtime: docker\n"
        "    image: nginx\n"
        "    limits: {cpus: 2}\n"
        "  - name: web\n"
        "    runtime: dokcer\n"
        "    limits:\n"
        "      memory: 512m\n"
    )
    assert problems(text) == (
        'templates.yaml:6: templates[0].limits.cpus (template "linux"): is not known; did you mean "cpu"?',
        (
            'templates.yaml:8: templates[1].runtime (template "web"): '
            "should be 'process', 'docker', 'podman', 'kubernetes', 'libvirt' or 'openstack'"
        ),
        (
            'templates.yaml:10: templates[1].limits.memory (template "web"): '
            'Size "512m" means thousandths of a byte, or less. Did you mean "512Mi"?'
        ),
    )


def test_a_file_that_is_all_wrong_is_not_answered_with_a_thousand_lines() -> None:
    found = problems(HEAD + "  - {}\n" * 40)
    assert len(found) == 11
    assert found[-1].endswith("more problems")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "templates.yaml: is empty; begin with `version: 1` and `templates:`"),
        (
            "x",
            (
                "templates.yaml:1: is not a set of keys; "
                "it can have: version, images, aliases, messages, quotas, engines, templates"
            ),
        ),
        ("templates: []", "templates.yaml:1: version: is missing: add it"),
        ("version: 1", "templates.yaml:1: templates: is missing: add it"),
        ("version: 1\ntemplates: []", "templates.yaml:2: templates: lists 0 templates: between 1 and 500 can be"),
        ("version: 1\ntemplates:", "templates.yaml:2: templates: has no value: give it one, or leave the key out"),
        ("version: 1\ntemplates: x", "templates.yaml:2: templates: is not a list"),
        ("version: 1\ntemplats: []", 'templates.yaml:2: templats: is not known; did you mean "templates"?'),
        ("a: 1\na: 2", 'templates.yaml:2: the key "a" appears twice: keep one'),
        ("a: \x00", "templates.yaml: it holds characters or escapes that YAML does not allow"),
    ],
)
def test_a_file_that_is_no_template_file(text: str, expected: str) -> None:
    assert problems(text)[0] == expected


def test_another_version_is_not_guessed_at() -> None:
    text = "version: 2\ntemplates: [{name: a, runtime: process}]"
    assert problems(text) == ('templates.yaml:1: version: is "2"; this Moorage reads version 1',)


def test_the_file_is_called_what_the_caller_calls_it() -> None:
    with pytest.raises(CatalogError, match=r"^/etc/moorage/lab\.yaml: is empty"):
        Catalog.from_yaml("", instance="test", source="/etc/moorage/lab.yaml")


def test_names_must_differ() -> None:
    found = problems(HEAD + "  - {name: a, runtime: process, match: {id: 1}}\n  - {name: a, runtime: process}\n")
    assert found == ('templates.yaml:2: templates: has 2 templates named "a": give each its own name',)


def test_a_template_that_can_never_be_used_is_a_mistake() -> None:
    found = problems(HEAD + "  - {name: a, runtime: process}\n  - {name: b, runtime: process}\n")
    assert found == (
        (
            'templates.yaml:3: templates[0] (template "a"): matches every resource, so "b" is never used: '
            "put it last, or give it a match"
        ),
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("naem: x", 'templates[0].naem (template "lab"): is not known; did you mean "name"?'),
        ("match: {type: []}", "matches nothing"),
        ("match: {typ: x}", 'match.typ (template "lab"): is not known; did you mean "type"?'),
        ("match: {type: {a: b}}", "is not a text"),
        ("match: {type: [[a]]}", "match.type[0]"),
        ("match: linux", "is not a set of keys; it can have: type, name, id"),
        ('image: "Nginx"', "image names are lower-case"),
        ("runtime: libvirt, image: ' '", "is empty or holds control characters"),
        ('runtime: openstack, image: "a\\nb"', "is empty or holds control characters"),
        ("command: sleep 1", 'is not a list: write ["sleep 1"]'),
        ("working_dir: home", '"home" is not an absolute path: begin it with /'),
        ("limits: {cpu: 0}", 'CPU "0" is not above zero'),
        ("limits: {memory: 512MB}", 'did you mean "512Mi"?'),
        ("limits: {cpu: [1]}", "is not a text"),
        ("limits: {cpu: 2}, maximum: {cpu: 1}", "limits.cpu (template \"lab\"): is 2, above the maximum of 1"),
        ("limits: {cpu: 1}, minimum: {cpu: 2}", "maximum.cpu (template \"lab\"): is 1, below the minimum of 2"),
        ("limits: {cpu: 1}, minimum: {cpu: 2}, maximum: {cpu: 4}", "(template \"lab\"): is 1, below the minimum of 2"),
        ("minimum: {memory: 2Gi}, maximum: {memory: 1Gi}", "is 1Gi, below the minimum of 2Gi"),
        ("limits: {cpu: unlimited}, maximum: {cpu: 4}", "is not stated, but the maximum is 4: say what everybody gets"),
        ("maximum: {storage: 10Gi}", "limits.storage (template \"lab\"): is not stated, but the maximum is 10Gi"),
        ("minimum: {cpu: unlimited}", "cannot be unlimited"),
        ("ports: {a: b}", "is not a list of ports"),
        ('ports: ["80:80:80"]', '"80:80:80" is not a port'),
        ("ports: [80, 80]", "listed twice"),
        ("host_ports: 2-1", "runs backwards"),
        ("host_ports: [1]", "is not a text"),
        ("on_host_port: deny", "should be 'allocate' or 'refuse'"),
        ("environment: {USER: x}", "environment.USER (template \"lab\"): is set by Moorage"),
        ("environment: {1A: x}", "name of variable 1"),
        ("environment: [A=1]", "is not a set of names and values"),
        ("environment: {A: [1]}", "environment.A (template \"lab\"): is not a text"),
        ("labels: {managed-by: me}", "is a label that Moorage sets itself"),
        ("labels: {Moorage/reservation: me}", "is a label that Moorage sets itself"),
        ("access: {http: 0}", "not a port number"),
        ("access: {ssh: 1-2}", "not a port number"),
        ("access: {ssh: 22, ssh_user: -oProxyCommand=x}", "is not a login name"),
        ("access: {ssh_user: student}", "add the port, `ssh: 22`"),
        ("access: {ssh: none, ssh_user: student}", "add the port, `ssh: 22`"),
        ("access: {ssh: 22, ssh_key: required}", "add the account, `ssh_user: student`"),
        ("access: {ssh: 22, ssh_home: /home/ann}", "add the account, `ssh_user: student`"),
        ("access: {ssh: 22, ssh_user: ann, ssh_key: maybe}", "should be 'optional', 'required' or 'none'"),
        ("access: {ssh: 22, ssh_user: ann, ssh_key: none, ssh_home: /a}", "means nothing with `ssh_key: none`"),
        ("access: {ssh: 22, ssh_user: ann, ssh_home: ann}", '"ann" is not an absolute path: begin it with /'),
        ("access: {ssh: 22, ssh_user: ann, ssh_home: /home/../etc}", "is not a plain path below /"),
        ("access: {ssh: 22, ssh_user: ann, ssh_owner: ann}", '"ann" is not a user id: write "1000"'),
        ("runtime: process, access: {ssh: 22, ssh_user: ann, ssh_key: required}", "cannot be required with process"),
        ("volume: {}", "volume.path (template \"lab\"): is missing: add it"),
        ("volume: {path: data}", '"data" is not an absolute path'),
        ("volume: {path: /}", "is not a plain path below /"),
        ("volume: {path: /a//b}", "is not a plain path below /"),
        ('volume: {path: "/a:ro"}', "is not a plain path below /"),
        ("volume: {path: /etc/ssh}", '"/etc/ssh" belongs to the image\'s system: choose a directory for data'),
        ("volume: {path: /data, scope: course}", "should be 'user' or 'reservation'"),
        ("volume: {path: /data, scope: user, reclaim: delete}", "so no end is the last one: write retain, or `scope:"),
        ("volume: {path: /data, name: A b}", '"A b" is not a name: use lower-case letters'),
        ("volume: {path: /data, size: unlimited}", "leave it out for a volume without a bound"),
        ("volume: {path: /data, size: 512m}", 'Did you mean "512Mi"?'),
        ("runtime: process, volume: {path: /data}", "volume (template \"lab\"): cannot be had with process"),
        ("runtime: kubernetes, gpus: all", "gpus (template \"lab\"): cannot be all with kubernetes"),
        ('runtime: kubernetes, devices: ["a.b/c=d"]', "devices (template \"lab\"): cannot be had with kubernetes"),
        ("runtime: kubernetes, security: {pids: 100}", "security.pids (template \"lab\"): cannot be set"),
        ("kubernetes: {service: cluster}", "kubernetes (template \"lab\"): is for kubernetes, and the runtime is"),
        ("runtime: kubernetes, kubernetes: {service: ingress}", "kubernetes.service (template \"lab\"): should be"),
        ("runtime: kubernetes, kubernetes: {runtime_class: G}", "runtime_class (template \"lab\"): \"G\" is not"),
        ("runtime: kubernetes, kubernetes: {requests: {cpu: 1500m}}",
         'kubernetes.requests.cpu (template "lab"): is 1500m, above the limit of 1: lower it, or raise the limit'),
        ("runtime: kubernetes, limits: {memory: 1Gi}, kubernetes: {requests: {memory: 2Gi}}",
         'kubernetes.requests.memory (template "lab"): is 2Gi, above the limit of 1Gi'),
        ("runtime: kubernetes, limits: {storage: 1Gi}, maximum: {storage: 4Gi}, kubernetes: {requests: {storage: 2Gi}}",
         'kubernetes.requests.storage (template "lab"): is 2Gi, above the limit of 1Gi'),
        ("runtime: kubernetes, kubernetes: {requests: {cpu: unlimited}}", "requests.cpu (template \"lab\"): cannot be"),
        ("runtime: kubernetes, kubernetes: {requests: {memory: 512m}}", 'Did you mean "512Mi"?'),
        ("runtime: kubernetes, kubernetes: {requests: {cpu: 0}}", "is not above zero"),
        ("runtime: kubernetes, kubernetes: {requests: {cpus: 1}}", 'is not known; did you mean "cpu"?'),
        ("runtime: kubernetes, kubernetes: {requests: 1}", "it can have: cpu, memory, storage"),
        ("volume: {path: /data, storage_class: fast}", "volume.storage_class (template \"lab\"): is for kubernetes"),
        ("volume: {path: /data, access_mode: ReadWriteMany}", "volume.access_mode (template \"lab\"): is for kube"),
        ("runtime: kubernetes, volume: {path: /data, storage_class: A/b}", '"A/b" is not the name of an object of a'),
        ("runtime: kubernetes, volume: {path: /data, access_mode: ReadOnlyMany}", "should be 'ReadWriteOnce', 'Read"),
        ("runtime: process, entrypoint: [sh]", "entrypoint (template \"lab\"): cannot be had with process"),
        ("gpus: 0", '"0" is neither `all` nor a number of GPUs from 1 to 128'),
        ("gpus: -1", '"-1" is neither `all` nor a number'),
        ("gpus: ²", "is neither `all` nor a number"),
        ("devices: [/dev/nvidia0]", '"/dev/nvidia0" is not the name of a device: write it as "nvidia.com/gpu=all"'),
        ("devices: [nvidia.com/gpu=0, nvidia.com/gpu=0]", "devices[1] (template \"lab\"):"),
        ("devices: nvidia.com/gpu=0", "is not a list"),
        ("runtime: process, on_unenforceable: refuse", "cannot be refuse with process, which bounds no environment"),
        ("on_unenforceable: ignore", "should be 'warn' or 'refuse'"),
        ('images: {allow: ["a**b"]}', "images.allow[0] (template \"lab\"): \"a**b\" is not an image pattern"),
        ("images: {allow: nginx}", 'is not a list: write ["nginx"]'),
        ("images: {on_violation: ignore}", "should be 'reject' or 'substitute'"),
        ("overrides: [imag]", 'overrides[0] (template "lab"): "imag" is not a parameter; did you mean "image"?'),
        ("overrides: ~", "has no value"),
        ("on_disallowed: maybe", "should be 'refuse' or 'ignore'"),
        ("pull: sometimes", "should be 'always', 'if-not-present' or 'never'"),
        ("pull: never, prepull: true", "fetches nothing, because pull is never"),
        ("prepull: perhaps", "should be a valid boolean"),
        ("start_timeout: 0", "should be greater than 0"),
        ("start_timeout: nan", "should be"),
        ("start_timeout: soon", "should be a valid number"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_template_is_named_with_its_remedy(template: str, expected: str) -> None:
    assert expected in problem(template)


@pytest.mark.parametrize("name", ["a b", "-a", "a-", "a" * 64, "", "é"])
def test_a_name_is_fit_for_labels_and_metrics(name: str) -> None:
    (only,) = problems(HEAD + f'  - {{name: "{name}", runtime: process}}\n')
    assert "is not a name: use letters" in only


@pytest.mark.parametrize("runtime", ["docker", "podman", "kubernetes", "libvirt", "openstack"])
def test_all_but_processes_need_an_image(runtime: str) -> None:
    (only,) = problems(HEAD + f"  - {{name: a, runtime: {runtime}}}\n")
    assert only.endswith(f'templates[0].image (template "a"): is missing: {runtime} needs one')


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ('images: {allow: ["Nginx"]}', "images.allow[0]: \"Nginx\" can match nothing: image names are lower-case"),
        ("images: {alow: []}", 'images.alow: is not known; did you mean "allow"?'),
        ("aliases: {imag: x}", 'aliases.imag: is not a parameter; did you mean "image"?'),
        ("aliases: {image: cpu}", 'aliases: the label "cpu" means both image and cpu_limit: keep one'),
        ("aliases: {image: []}", "aliases: is an empty list"),
        ("aliases: [image]", "aliases: is not a set of parameters, each with its labels"),
    ],
)  # fmt: skip
def test_a_mistake_at_the_top_is_named_with_its_remedy(top: str, expected: str) -> None:
    assert expected in problem("", top=top)


keys = st.sampled_from(
    ["version", "templates", "name", "match", "type", "runtime", "docker", "image", "limits", "cpu", "1", "ports", "80"]
)
documents = st.recursive(
    keys | st.text("ab1-*", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(keys, inner, max_size=4).map(
            lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=12,
)


@given(documents, st.booleans())
def test_whatever_the_file_says_it_is_a_catalog_or_a_catalog_error(document: str, headed: bool) -> None:
    text = f"{{version: 1, templates: [{document}]}}" if headed else document
    outcome = attempt(lambda: Catalog.from_yaml(text, instance="test"), CatalogError)
    assert isinstance(outcome, Catalog) or 1 <= len(outcome.problems) <= 11


def test_without_a_file_the_default_settings_serve_everything() -> None:
    defaults = Catalog.from_defaults(Defaults(), instance="test")
    assert defaults.resolve(reservation({"memory": "256Mi"})).limits.memory_bytes == 256 * 2**20
    assert defaults.template_for(Resource(id="x")) is not None
    assert defaults.runtimes == {"docker"}


def test_all_default_settings_arrive() -> None:
    spec = Catalog.from_defaults(
        Defaults(
            runtime="podman",
            image="redis",
            cpu="2",
            memory="1Gi",
            storage="2Gi",
            maximum_cpu="4",
            maximum_memory="unlimited",
            maximum_storage="3Gi",
            allowed_images=("nginx",),
            ports="6379, 53/udp",
            command=("redis-server", "--save", ""),
            http_port=8001,
            ssh_port=22,
            ssh_user="student",
        ),
        instance="test",
    ).resolve(reservation({"cpu": "4", "memory": "1Ti", "image": "nginx:1.27", "disk": "3Gi"}))
    assert (spec.runtime, spec.image, spec.template) == ("podman", "docker.io/library/nginx:1.27", "default")
    assert spec.limits.cpu_millis == 4000
    assert spec.limits.memory_bytes == 2**40
    assert spec.limits.storage_bytes == 3 * 2**30
    assert [(port.container, port.protocol) for port in spec.ports] == [
        (22, "tcp"), (53, "udp"), (6379, "tcp"), (8001, "tcp"),
    ]  # fmt: skip
    assert (spec.access.http_port, spec.access.ssh_port, spec.access.ssh_user) == (8001, 22, "student")
    assert spec.command == ("redis-server", "--save", "")


def test_the_process_runtime_needs_no_image() -> None:
    spec = Catalog.from_defaults(Defaults(runtime="process", image=None), instance="test").resolve(reservation())
    assert spec.image == ""


def test_what_templates_need_of_a_runtime_is_put_together() -> None:
    both = Catalog.from_yaml(
        f"{HEAD}  - {{name: offline, match: {{name: a}}, runtime: docker, image: nginx, pull: never}}\n"
        "  - {name: other, match: {name: b}, runtime: docker, image: redis}\n",
        instance="test",
    )
    needs = both.needs("docker")
    assert [template for template, _ in needs.images] == ["offline", "other"]
    assert needs.never_pulled == {"offline"}
    assert not both.needs("podman").images


def test_who_is_given_a_kubeconfig_has_the_same_environment() -> None:
    line = "  - {name: web, match: {type: Linux container}, runtime: kubernetes, image: nginx"
    texts = (f"{HEAD}{line}}}\n", f"{HEAD}{line}, kubernetes: {{kubeconfig: true}}}}\n")
    without, given = (Catalog.from_yaml(text, instance="test") for text in texts)
    assert (without.needs("kubernetes").kubeconfigs, given.needs("kubernetes").kubeconfigs) == (set(), {"web"})
    specs = [each.resolve(reservation()) for each in (without, given)]
    assert [spec.kubernetes.kubeconfig for spec in specs] == [False, True]
    assert specs[0].spec_hash == specs[1].spec_hash


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        (Defaults(memory="512m"), "default environment: limits.memory: Size \"512m\" means thousandths of a byte"),
        (Defaults(image=None), "default environment: image: is missing: docker needs one"),
        (Defaults(runtime="dokcer"), "default environment: runtime: should be 'process'"),
        (Defaults(allowed_images=("Nginx",)), "default environment: images.allow[0]: \"Nginx\" can match nothing"),
        (Defaults(http_port=70_000), "default environment: access.http: Ports: \"70000\" is not a port number"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_default_settings_is_named_without_a_template_that_nobody_wrote(
    defaults: Defaults, expected: str
) -> None:
    with pytest.raises(CatalogError) as caught:
        Catalog.from_defaults(defaults, instance="test")
    assert str(caught.value).startswith(expected)
