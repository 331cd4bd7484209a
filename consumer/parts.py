"""What settings come to: the connection and topics, the templates, and a provisioner for each runtime."""

from collections.abc import Mapping
from dataclasses import replace

from consumer.catalog.engine_section import EngineSection
from consumer.catalog.templates import Catalog, Defaults
from consumer.handling.ports import Provisioner
from consumer.settings import Settings
from consumer.transport.connection import Connection, Topics


class ConfigurationError(Exception):
    """The settings do not fit together; the message says which and what to do."""


def connection_of(settings: Settings) -> Connection:
    password = settings.sasl_password
    return Connection(
        bootstrap_servers=settings.bootstrap_servers,
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_username=settings.sasl_username,
        sasl_password=password.get_secret_value() if password else None,
        ssl_ca_file=str(settings.ssl_ca_file) if settings.ssl_ca_file else None,
    )


def topics_of(settings: Settings) -> Topics:
    return Topics(
        inbound=settings.inbound_topics,
        outbound=settings.outbound_topic,
        state=settings.state_topic,
        dead_letter=settings.dead_letter_topic,
    )


def catalog_of(settings: Settings) -> Catalog:
    """The templates of the file, or one made of the defaults. Raises `CatalogError` or `ConfigurationError`."""
    if settings.templates is None:
        defaults = Defaults(
            runtime=settings.runtime,
            image=settings.image,
            cpu=settings.cpu_limit,
            memory=settings.memory_limit,
            storage=settings.storage_limit,
            allowed_images=settings.allowed_images,
            user_environments=settings.quota_user_environments,
            total_environments=settings.quota_total_environments,
            queue=settings.quota_queue,
            capabilities=_capabilities(settings),
        )
        return Catalog.from_defaults(defaults, instance=settings.instance)
    try:
        text = settings.templates.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read MOORAGE_TEMPLATES {settings.templates}: {error}") from error
    catalog = Catalog.from_yaml(text, instance=settings.instance, source=settings.templates.name)
    _refuse_two_names(settings, catalog)
    return catalog


def _refuse_two_names(settings: Settings, catalog: Catalog) -> None:
    """One engine under two names would have what is made by one name removed as a stray of the other."""
    of_settings = {"docker": settings.docker_host, "podman": settings.podman_host}
    places = {_place(settings, None): "kubernetes"} if "kubernetes" in catalog.runtimes else {}
    for name, engine in catalog.engines.items():
        if engine.is_cluster:
            if (first := places.setdefault(_place(settings, engine), name)) != name:
                raise ConfigurationError(
                    f"{name} and {first} are the same namespace of the same cluster (KUBECONFIG, "
                    "MOORAGE_KUBERNETES_CONTEXT and K8S_NAMESPACE hold where `engines` says nothing). "
                    "Give each its own, or leave one out."
                )
            continue
        url = of_settings[engine.runtime]
        if url is not None and url.rstrip("/") == engine.url and engine.runtime in catalog.runtimes:
            raise ConfigurationError(
                f"{engine.runtime.upper()}_HOST and {name} are the same engine, and templates use both. "
                "Say `engines` in each of these templates, or in none."
            )
    if settings.namespace_per_user:
        _refuse_names_within_names(places)


def _refuse_names_within_names(places: Mapping[tuple[str | None, str | None, str], str]) -> None:
    """With a namespace for each user, one whose name goes on from another's would seem to be a user's of the other."""
    for *inner, namespace in places:
        for *outer, prefix in places:
            if inner == outer and namespace.startswith(f"{prefix}-"):
                raise ConfigurationError(
                    f"The namespaces {prefix} and {namespace} of one cluster cannot be told apart with "
                    "MOORAGE_KUBERNETES_NAMESPACE_PER_USER: names of users' namespaces begin with them. Rename one."
                )


def _place(settings: Settings, cluster: EngineSection | None) -> tuple[str | None, str | None, str]:
    """Kubeconfig, context and namespace of a cluster of the template file; None is that of the settings."""
    kubeconfig, context, namespace = settings.kubeconfig or None, settings.kubernetes_context, settings.k8s_namespace
    if cluster is None:
        return kubeconfig, context, namespace
    if cluster.kubeconfig is not None:  # which may know nothing of the context of the settings
        kubeconfig, context = str(cluster.kubeconfig), None
    return kubeconfig, cluster.context or context, cluster.namespace or namespace


def _capabilities(settings: Settings) -> tuple[str, ...]:
    """Those that were asked for; the usual ones are for images that begin as root, which a cluster does not let in."""
    asked = settings.runtime != "kubernetes" or "capabilities" in settings.model_fields_set
    return settings.capabilities if asked else ()


def provisioners_of(
    settings: Settings, runtimes: frozenset[str], catalog: Catalog | None = None
) -> dict[str, Provisioner]:
    """A provisioner for each of these runtimes. Raises `ConfigurationError` for one that is not there.

    Engines are those of `catalog`, or else of the template file, which may be wrong: that raises `CatalogError` too.
    """
    engines = (catalog or catalog_of(settings)).engines if any("@" in name for name in runtimes) else {}
    return {runtime: _provisioner(settings, runtime, engines.get(runtime)) for runtime in sorted(runtimes)}


def _provisioner(settings: Settings, runtime: str, engine: EngineSection | None) -> Provisioner:
    # Imported where they are needed: runtimes are extras, and an installation has the ones it uses.
    kind = engine.runtime if engine is not None else runtime
    if kind == "process":
        from consumer.provisioners.process import ProcessOptions, ProcessProvisioner

        return ProcessProvisioner(
            ProcessOptions(
                root=settings.process_dir,
                instance=settings.instance,
                bind_host=settings.bind_host,
                public_host=settings.public_host,
            )
        )
    if kind in ("docker", "podman"):
        return _docker(settings, kind, engine)
    if kind == "kubernetes":
        return _kubernetes(settings, engine)
    if "@" in runtime:
        raise ConfigurationError(
            f"There is no engine {runtime} in the template file. While anything runs there, it has to be listed in "
            "`engines`; templates need not use it."
        )
    raise ConfigurationError(
        f"This version of Moorage does not provide the runtime {runtime}; it provides process, docker, podman and "
        "kubernetes. Change CONTAINER_RUNTIME or the template."
    )


def _kubernetes(settings: Settings, cluster: EngineSection | None) -> Provisioner:
    try:
        from consumer.provisioners.kubernetes import KubernetesOptions, KubernetesProvisioner, UserNamespaces
    except ImportError as error:
        raise ConfigurationError("The kubernetes runtime needs `pip install moorage[kubernetes]`.") from error
    kubeconfig, context, namespace = _place(settings, cluster)
    users = UserNamespaces(settings.pod_security, settings.user_quota, settings.user_limits, settings.user_role)
    try:
        options = KubernetesOptions(
            instance=settings.instance,
            namespace=namespace,
            kubeconfig=kubeconfig,
            context=context,
            users=users if settings.namespace_per_user else None,
            service=settings.kubernetes_service,
            public_host=settings.public_host,
            public_server=settings.kubernetes_public_server or None,
            storage_class=settings.storage_class,
            volume_access=settings.volume_access,
            registry_credentials=settings.registry_credentials,
            start_timeout=settings.start_timeout,
            schedule_timeout=settings.schedule_timeout,
            max_lease=settings.max_lease,
        )
        if cluster is not None:
            at_home = (kubeconfig, context) == _place(settings, None)[:2]
            options = replace(
                options,
                name=cluster.full_name,
                service=cluster.service or settings.kubernetes_service,
                public_host=cluster.public_host or (settings.public_host if at_home else None),
                public_server=cluster.public_server or (options.public_server if at_home else None),
                storage_class=cluster.storage_class or settings.storage_class,
            )
    except ValueError as error:
        where = f"The namespace of {cluster.full_name}" if cluster is not None else "K8S_NAMESPACE"
        raise ConfigurationError(f"{where} cannot be used: {error}") from error
    try:
        return KubernetesProvisioner(options)
    except ValueError as error:
        raise ConfigurationError(f"MOORAGE_REGISTRY_CREDENTIALS: {error}") from error


def _docker(settings: Settings, kind: str, engine: EngineSection | None) -> Provisioner:
    try:
        from consumer.provisioners.docker import DOCKER, PODMAN, DockerOptions, DockerProvisioner
    except ImportError as error:
        raise ConfigurationError(f"The {kind} runtime needs `pip install moorage[docker]`.") from error
    docker = kind == "docker"
    host = f"The url of {engine.full_name}" if engine else "DOCKER_HOST" if docker else "PODMAN_HOST"
    folder = f"The tls of {engine.full_name}" if engine else "DOCKER_CERT_PATH"
    try:
        options = DockerOptions(
            instance=settings.instance,
            url=settings.docker_host if docker else settings.podman_host,
            dialect=DOCKER if docker else PODMAN,
            bind_host=settings.bind_host,
            public_host=settings.public_host,
            network=settings.docker_network,
            block_metadata=settings.block_metadata,
            registry_credentials=settings.registry_credentials,
            tls=settings.docker_tls if docker else None,
        )
        if engine is not None:
            options = replace(
                options,
                name=engine.full_name,
                url=engine.url,
                bind_host=engine.bind_host or settings.bind_host,
                public_host=engine.public_host or engine.host or settings.public_host,
                tls=engine.tls,
            )
    except ValueError as error:
        raise ConfigurationError(f"{host} or MOORAGE_DOCKER_NETWORK cannot be used: {error}") from error
    try:
        return DockerProvisioner(options)
    except ValueError as error:
        raise ConfigurationError(f"{folder} or MOORAGE_REGISTRY_CREDENTIALS: {error}") from error
