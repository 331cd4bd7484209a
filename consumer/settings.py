"""Every setting in one place, read from environment variables."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import Field, PlainSerializer, PlainValidator, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from consumer.catalog.environment import PodSecurity, ServiceType, VolumeAccess
from consumer.catalog.namespace_bounds import Quantities, limits, quota

RUNTIMES = ("process", "docker", "podman", "kubernetes", "libvirt", "openstack")
Runtime = Literal["process", "docker", "podman", "kubernetes", "libvirt", "openstack"]

TERMINATION_GRACE = 60
"""Seconds that deploy/ gives a stopping instance; stopping in good order stays below."""

_LEAVING = 15.0
"""Seconds that flushing, committing and leaving the group may take after the drain."""


def _env(name: str, default: object, description: str, **bounds: Any) -> Any:
    return Field(default=default, validation_alias=name, description=description, **bounds)


def _zone(value: object) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    name = str(value).strip()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: it names a folder of the database
        close = difflib.get_close_matches(name[:64], available_timezones(), n=1)
        meant = f"did you mean {close[0]}?" if close else "write an IANA name such as Europe/Rome"
        raise ValueError(f"{name[:64]!r} is not a time zone; {meant}") from error


Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What an operator can set. Every value has the name of its environment variable as alias."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    # Kafka
    bootstrap_servers: str = _env("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", "Kafka brokers, `host:port,host:port`.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _env(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "How to connect to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _env(
        "KAFKA_SASL_MECHANISM", "PLAIN", "How to log in, with a `SASL_*` protocol."
    )
    sasl_username: str | None = _env("KAFKA_SASL_USERNAME", None, "User for SASL.")
    sasl_password: SecretStr | None = _env("KAFKA_SASL_PASSWORD", None, "Password for SASL.")
    ssl_ca_file: Path | None = _env(
        "KAFKA_SSL_CA_FILE", None, "CA certificates (PEM) that brokers are checked against."
    )
    group: str = _env("MOORAGE_GROUP", "moorage", "Consumer group.")
    group_instance: str | None = _env(
        "MOORAGE_GROUP_INSTANCE",
        None,
        "Static group membership: unique and stable for each member. A restart within the session timeout then moves "
        "no partitions; a member that is gone for good blocks its partitions for that long.",
    )
    inbound_topics: Words = _env(
        "MOORAGE_TOPICS", ("reservation-events",), "Topics the platform publishes to, comma-separated."
    )
    outbound_topic: str = _env("MOORAGE_OUTBOUND_TOPIC", "moorage-outbound", "Results and notifications.")
    state_topic: str = _env("MOORAGE_STATE_TOPIC", "moorage-state", "Compacted; what is remembered of reservations.")
    dead_letter_topic: str = _env(
        "MOORAGE_DEAD_LETTER_TOPIC", "moorage-dead-letters", "Records that failed, untouched."
    )
    create_topics: bool = _env("MOORAGE_CREATE_TOPICS", True, "Create missing topics at start.")
    partitions: int = _env(
        "MOORAGE_PARTITIONS", 8, "Partitions of reservation topics that are created.", ge=1, le=10_000
    )

    # Bounds
    instance: str = _env(
        "MOORAGE_INSTANCE",
        "default",
        "Name of this installation; installations with different names never touch each other's environments.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    )
    max_record_bytes: int = _env(
        "MOORAGE_MAX_RECORD_BYTES", 262_144, "Larger records go to the dead-letter topic unparsed.", ge=1024
    )
    concurrency: int = _env("MOORAGE_CONCURRENCY", 64, "Reservations worked on at the same time.", ge=1, le=10_000)
    runtime_concurrency: Annotated[dict[str, int], NoDecode] = _env(
        "MOORAGE_RUNTIME_CONCURRENCY",
        {"process": 16, "docker": 20, "podman": 20},
        "The same for single runtimes, `docker=20,process=16`; for an engine of the template file, `docker@gpu-1=5`. "
        "Each engine has the limit of its kind otherwise.",
    )
    max_buffered_records: int = _env(
        "MOORAGE_MAX_BUFFERED_RECORDS", 10_000, "Records in memory at which intake pauses.", ge=1
    )
    max_buffered_bytes: int = _env(
        "MOORAGE_MAX_BUFFERED_BYTES", 64 * 1024 * 1024, "Bytes of records in memory at which intake pauses.", ge=65_536
    )
    start_timeout: float = _env("MOORAGE_START_TIMEOUT", 300.0, "Seconds an environment may take to come up.", gt=0)
    release_timeout: float = _env(
        "MOORAGE_RELEASE_TIMEOUT", 60.0, "Seconds one attempt at removing an environment may take.", gt=0
    )
    start_lead: float = _env(
        "MOORAGE_START_LEAD", 600.0, "Seconds before its start at which a rescheduled reservation may run.", ge=0
    )
    end_grace: float = _env(
        "MOORAGE_END_GRACE",
        120.0,
        "Seconds after a reservation's end in which its END may still come; then its environment is removed without.",
        ge=0,
    )
    self_schedule: bool = _env(
        "MOORAGE_SELF_SCHEDULE",
        False,
        "Start known reservations at their time (less `MOORAGE_START_LEAD`), whether a START comes or not.",
    )
    exclusive_wait: float = _env(
        "MOORAGE_EXCLUSIVE_WAIT",
        600.0,
        "Seconds from its start that a reservation waits until the one before has left an exclusive resource.",
        ge=0,
    )
    reconcile_interval: float = _env(
        "MOORAGE_RECONCILE_INTERVAL", 60.0, "Seconds between comparing what runs with what is remembered.", gt=0
    )
    reconcile_delay: float = _env(
        "MOORAGE_RECONCILE_DELAY",
        120.0,
        "Seconds a difference must last before a left-over environment is removed, or a lost one is told.",
        ge=0,
    )
    max_attempts: int = _env("MOORAGE_MAX_ATTEMPTS", 6, "Attempts at provisioning before it has failed.", ge=1)
    retry_max_delay: float = _env("MOORAGE_RETRY_MAX_DELAY", 30.0, "Longest wait between attempts, seconds.", gt=0)
    drain_timeout: float = _env(
        "MOORAGE_DRAIN_TIMEOUT",
        30.0,
        "Seconds running work may take to finish at shutdown or when partitions move.",
        gt=0,
    )
    dead_letter_burst: int = _env(
        "MOORAGE_DEAD_LETTER_BURST",
        100,
        "Dead letters written in a row before intake pauses. Ten successes, or ten seconds, allow for one more.",
        ge=1,
    )
    stall_alarm: float = _env(
        "MOORAGE_STALL_ALARM", 120.0, "Seconds in which nothing is taken in or finished before that is an alarm.", gt=0
    )
    tombstone_retention: float = _env(
        "MOORAGE_TOMBSTONE_RETENTION",
        604_800.0,
        "Seconds that reservations are remembered after they are over, so that late events start nothing.",
        ge=1,
    )
    commit_interval: float = _env("MOORAGE_COMMIT_INTERVAL", 1.0, "Seconds between commits.", gt=0)

    # Environments
    templates: Path | None = _env(
        "MOORAGE_TEMPLATES", None, "Template file (YAML). Without one, the defaults below rule."
    )
    runtime: Runtime = _env("CONTAINER_RUNTIME", "process", "Runtime of environments without a template file.")
    image: str = _env("DEFAULT_IMAGE", "nginx:stable", "Image without a template file.")
    cpu_limit: str = _env("DEFAULT_CPU_LIMIT", "1", "CPU limit without a template file, as a Kubernetes quantity.")
    memory_limit: str = _env("DEFAULT_MEMORY_LIMIT", "512Mi", "Memory limit without a template file.")
    storage_limit: str | None = _env("DEFAULT_STORAGE_LIMIT", None, "Storage limit without a template file.")
    allowed_images: Words = _env(
        "MOORAGE_ALLOWED_IMAGES",
        (),
        "Images users may ask for without a template file, comma-separated patterns; the default image always.",
    )
    quota_user_environments: int | None = _env(
        "MOORAGE_QUOTA_USER_ENVIRONMENTS",
        None,
        "Environments a user may have at a time without a template file.",
        ge=1,
    )
    quota_total_environments: int | None = _env(
        "MOORAGE_QUOTA_TOTAL_ENVIRONMENTS", None, "Environments of all users at a time without a template file.", ge=1
    )
    quota_queue: bool = _env(
        "MOORAGE_QUOTA_QUEUE",
        False,
        "Starts above a quota wait for room instead of failing, at most until their reservation's end.",
    )
    capabilities: Words = _env(
        "DEFAULT_CAPABILITIES",
        ("CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"),
        "Capabilities of containers without a template file, comma-separated; all others are dropped. The default is "
        "what servers such as nginx need to leave root.",
    )
    bind_host: str = _env("MOORAGE_BIND_HOST", "127.0.0.1", "Address that ports of environments are opened on.")
    public_host: str | None = _env("MOORAGE_PUBLIC_HOST", None, "Host name users are told; the bind address otherwise.")
    process_dir: Path = _env(
        "MOORAGE_PROCESS_DIR",
        Path("/var/lib/moorage/environments"),
        "Where the process runtime keeps its environments.",
    )
    docker_network: str = _env(
        "MOORAGE_DOCKER_NETWORK",
        "isolated",
        "Network of containers: `isolated` is one for all on which they do not reach each other, `private` one for "
        "each, `default` the engine's own bridge; anything else is the name of a network that exists.",
    )
    block_metadata: bool = _env(
        "MOORAGE_BLOCK_METADATA",
        True,
        "Keep containers on `isolated` and `private` networks from a cloud's metadata service (169.254.169.254).",
    )
    docker_host: str | None = _env("DOCKER_HOST", None, "Docker Engine; the local socket otherwise.")
    docker_tls: Path | None = _env(
        "DOCKER_CERT_PATH", None, "Folder with `ca.pem`, `cert.pem` and `key.pem`, for a Docker Engine on TCP with TLS."
    )
    podman_host: str | None = _env(
        "PODMAN_HOST", None, "Podman's API service, as in `unix:///run/podman/podman.sock`; the local socket otherwise."
    )
    registry_credentials: Path | None = _env(
        "MOORAGE_REGISTRY_CREDENTIALS",
        None,
        "File with logins for private registries, as `docker login` writes it (`config.json`); read again when it "
        "changes.",
    )
    kubeconfig: str | None = _env(
        "KUBECONFIG",
        None,
        "Kubeconfig of the Kubernetes runtime; without one the cluster that Moorage runs in, or `~/.kube/config`.",
    )
    kubernetes_context: str | None = _env(
        "MOORAGE_KUBERNETES_CONTEXT", None, "Context of the kubeconfig; its current one otherwise."
    )
    k8s_namespace: str = _env(
        "K8S_NAMESPACE",
        "default",
        "Namespace of the Kubernetes runtime, which must exist and should be for it alone; with a namespace for each "
        "user what their names begin with.",
    )
    namespace_per_user: bool = _env(
        "MOORAGE_KUBERNETES_NAMESPACE_PER_USER",
        False,
        "A namespace for each user, made when it is needed; its name begins with `K8S_NAMESPACE`.",
    )
    pod_security: PodSecurity = _env(
        "MOORAGE_KUBERNETES_POD_SECURITY",
        "restricted",
        "What pods in users' namespaces may do at most: `restricted`, `baseline` or `privileged`.",
    )
    user_quota: Annotated[Quantities, NoDecode, PlainValidator(quota)] = _env(
        "MOORAGE_KUBERNETES_USER_QUOTA",
        {"pods": "20", "services": "20", "persistentvolumeclaims": "20", "configmaps": "50", "secrets": "70"},
        "What there may be in a user's namespace (its ResourceQuota).",
    )
    user_limits: Annotated[Quantities, NoDecode, PlainValidator(limits)] = _env(
        "MOORAGE_KUBERNETES_USER_LIMITS",
        {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "4Gi"},
        "Limits of containers in a user's namespace that state none (its LimitRange).",
    )
    user_role: str | None = _env(
        "MOORAGE_KUBERNETES_USER_ROLE",
        None,
        "ClusterRole that Moorage binds itself to in users' namespaces, where it has not got its rules in all of them.",
    )
    kubernetes_service: ServiceType = _env(
        "MOORAGE_KUBERNETES_SERVICE",
        "cluster",
        "How ports of pods are reached where a template does not say: `cluster` (from within), `node-port` or "
        "`load-balancer`.",
    )
    kubernetes_public_server: str | None = _env(
        "MOORAGE_KUBERNETES_PUBLIC_SERVER",
        None,
        "URL of the API server as users reach it, for their kubeconfigs; the one that Moorage uses otherwise.",
        pattern="^https://",
    )
    storage_class: str | None = _env(
        "MOORAGE_KUBERNETES_STORAGE_CLASS",
        None,
        "Storage class of volumes whose template has none; the cluster's default otherwise.",
    )
    volume_access: VolumeAccess = _env(
        "MOORAGE_KUBERNETES_VOLUME_ACCESS",
        "ReadWriteOnce",
        "Access mode of volumes whose template has none: with `ReadWriteMany` pods on several nodes may share one.",
    )
    schedule_timeout: float = _env(
        "MOORAGE_KUBERNETES_SCHEDULE_TIMEOUT",
        120.0,
        "Seconds a pod may wait for a node with room before its start is given up and tried again.",
        ge=0,
    )
    max_lease: int = _env(
        "MOORAGE_KUBERNETES_MAX_LEASE",
        2_592_000,
        "Seconds after which the cluster ends a pod, whatever became of Moorage; longer than any reservation. Whose "
        "reservation is longer is told.",
        ge=60,
        le=2**31 - 1,
    )
    hypervisor_url: str | None = _env("VM_HYPERVISOR_URL", None, "libvirt connection of the libvirt runtime.")
    openstack_auth_url: str | None = _env("OPENSTACK_AUTH_URL", None, "Keystone of the OpenStack runtime.")
    openstack_username: str | None = _env("OPENSTACK_USERNAME", None, "User of the OpenStack runtime.")
    openstack_password: SecretStr | None = _env("OPENSTACK_PASSWORD", None, "Password of the OpenStack runtime.")
    openstack_project: str | None = _env("OPENSTACK_PROJECT_NAME", None, "Project of the OpenStack runtime.")

    # Notifications
    time_zone: Annotated[ZoneInfo, PlainValidator(_zone), PlainSerializer(str)] = _env(
        "MOORAGE_TIME_ZONE",
        ZoneInfo("UTC"),
        "Time zone of notifications, by its IANA name (`Europe/Rome`). Results are in UTC whatever it is.",
    )

    # Operation
    http_port: int | None = _env(
        "MOORAGE_HTTP_PORT",
        None,
        "Port of `/livez`, `/readyz` and `/metrics`; none is opened without.",
        ge=1,
        le=65_535,
    )
    http_host: str = _env("MOORAGE_HTTP_HOST", "127.0.0.1", "Address that this port is opened on.")
    usage_interval: float = _env(
        "MOORAGE_USAGE_INTERVAL", 30.0, "Seconds between reading what environments use, for `/metrics`.", ge=1
    )
    log_level: Literal["debug", "info", "warning", "error"] = _env("MOORAGE_LOG_LEVEL", "info", "Least level logged.")
    log_format: Literal["json", "console"] = _env(
        "MOORAGE_LOG_FORMAT", "json", "One JSON object a line, or for reading."
    )

    @field_validator("inbound_topics", "allowed_images", "capabilities", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @field_validator("runtime_concurrency", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        words = [word.strip() for word in value.split(",") if word.strip()]
        if malformed := [word for word in words if "=" not in word]:
            raise ValueError(f"{malformed[0]} is not of the form name=count")
        pairs = dict(word.split("=", 1) for word in words)
        if unknown := {name for name in pairs if name.partition("@")[0] not in RUNTIMES}:
            raise ValueError(f"unknown runtime {min(unknown)}; known are {', '.join(RUNTIMES)}")
        return pairs

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if any(count < 1 for count in self.runtime_concurrency.values()):
            raise ValueError("MOORAGE_RUNTIME_CONCURRENCY must be at least 1 for every runtime it names")
        if not self.inbound_topics:
            raise ValueError("MOORAGE_TOPICS names no topic")
        if self.drain_timeout + _LEAVING > TERMINATION_GRACE:
            most = TERMINATION_GRACE - _LEAVING
            raise ValueError(
                f"MOORAGE_DRAIN_TIMEOUT is {self.drain_timeout:g} s, but an instance has {TERMINATION_GRACE} s to stop "
                f"and needs {_LEAVING:g} s of them to commit and leave. Use {most:g} or less."
            )
        return self


def settings_table() -> str:
    """All settings as a Markdown table."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for field in Settings.model_fields.values():
        default = field.default
        match default:
            case None | () | "":
                text = ""
            case tuple():
                text = f"`{','.join(default)}`"
            case dict():
                text = f"`{','.join(f'{key}={value}' for key, value in default.items())}`"
            case bool():
                text = f"`{str(default).lower()}`"
            case float():
                text = f"`{default:g}`"
            case _:
                text = f"`{default}`"
        rows.append(f"| `{field.validation_alias}` | {text} | {field.description} |")
    return "\n".join(rows)
