"""From a template and what a reservation asks for to the environment: decided here, once, and always the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from consumer.catalog.access import login_for
from consumer.catalog.environment import AccessHints, EnvironmentSpec, Kubernetes, Limits, Port, Volume
from consumer.catalog.identity import environment_labels, environment_name, reservation_key
from consumer.catalog.image_policy import ImageChoice, ImagePolicy, MachineImagePolicy
from consumer.catalog.images import tagged
from consumer.catalog.parameters import Overrides, Parameter, parse_parameters
from consumer.catalog.ports import merge_ports, place_host_ports
from consumer.catalog.security import Security
from consumer.catalog.template import CONTAINER_RUNTIMES, MACHINE_RUNTIMES, Template
from consumer.catalog.variables import check_variables, refuse_denied, reservation_variables
from consumer.catalog.volumes import volume_for
from schemas.state import ReservationState

_LIKELY_HTTP_PORTS = (80, 8080, 8888, 443)


def resolve(
    template: Template,
    policy: ImagePolicy | MachineImagePolicy,
    aliases: Mapping[str, Parameter],
    state: ReservationState,
    *,
    instance: str,
) -> EnvironmentSpec:
    """The environment of `state` by `template`. Raises `Refused` with any of `codes.REASONS` but `no_template`.

    It depends on nothing else: the same reservation resolves to the same environment, whenever and however often.
    """
    overrides = parse_parameters(
        state.parameters, aliases=aliases, allowed=template.offered, on_disallowed=template.on_disallowed
    )
    choice = _image(template, policy, overrides)
    ports = _ports(template, overrides)
    access = _access(template, ports)
    login, why_no_login = (None, None)
    if template.runtime in CONTAINER_RUNTIMES:
        login, why_no_login = login_for(template.access, state.user)
    limits = _limits(template, overrides)
    return EnvironmentSpec(
        name=environment_name(instance, state.reservation_id, state.user, state.resource),
        key=reservation_key(instance, state.reservation_id),
        runtime=template.runtime,
        template=template.name,
        image=choice.image,
        user=state.user,
        resource=state.resource,
        reservation_id=state.reservation_id,
        expires_at=state.end,
        runtimes=template.runtimes,
        entrypoint=template.entrypoint,
        command=template.command,
        working_dir=template.working_dir,
        limits=limits,
        ports=ports,
        access=access,
        login=login,
        volume=_volume(template, state, instance),
        gpus=template.gpus,
        devices=template.devices,
        must_enforce=template.on_unenforceable == "refuse",
        security=template.security.security() if template.security is not None else Security(),
        kubernetes=template.kubernetes.kubernetes(limits) if template.kubernetes is not None else Kubernetes(),
        environment=_environment(template, overrides, state),
        labels={
            **template.labels,
            **environment_labels(
                instance=instance,
                reservation_id=state.reservation_id,
                user=state.user,
                resource=state.resource,
                template=template.name,
                expires_at=state.end,
                access=access,
                limits=limits,
            ),
        },
        pull=template.pull,
        start_timeout=template.start_timeout,
        ready=template.ready.readiness(),
        notes=(*filter(None, (choice.note, why_no_login)), *_ignored(overrides.ignored)),
    )


def _image(template: Template, policy: ImagePolicy | MachineImagePolicy, overrides: Overrides) -> ImageChoice:
    own = template.image or ""
    if template.runtime == "process" and not own:
        # A template without an image has nothing to choose from: whatever image is asked for, this is what runs.
        note = "This resource runs a fixed program: the image asked for makes no difference."
        return ImageChoice(own, note if overrides.image else None)
    if overrides.image is not None:
        return policy.decide(overrides.image, own)
    return ImageChoice(own if template.runtime in MACHINE_RUNTIMES else tagged(own))


def _limits(template: Template, overrides: Overrides) -> Limits:
    bounds = template.bounds
    return Limits(
        cpu_millis=bounds[Parameter.CPU_LIMIT].choose(overrides.cpu_limit),
        memory_bytes=bounds[Parameter.MEMORY_LIMIT].choose(overrides.memory_limit),
        storage_bytes=bounds[Parameter.STORAGE_LIMIT].choose(overrides.storage_limit),
    )


def _ports(template: Template, overrides: Overrides) -> tuple[Port, ...]:
    listed = {port.container for port in template.ports if port.protocol == "tcp"}
    named = {port for port in (template.access.http, template.access.ssh) if isinstance(port, int)}
    asked = place_host_ports(overrides.ports, template.host_ports, template.on_host_port)
    return merge_ports((*template.ports, *map(Port, named - listed)), asked)


def _access(template: Template, ports: Sequence[Port]) -> AccessHints:
    if template.access.http is not None:
        return template.access.hints
    tcp = {port.container for port in ports if port.protocol == "tcp"}
    likely = next((port for port in _LIKELY_HTTP_PORTS if port in tcp), None)
    return replace(template.access.hints, http_port=likely)


def _volume(template: Template, state: ReservationState, instance: str) -> Volume | None:
    return None if template.volume is None else volume_for(template.volume, template.name, state, instance=instance)


def _environment(template: Template, overrides: Overrides, state: ReservationState) -> dict[str, str]:
    refuse_denied(overrides.environment, template.runtime)
    chosen = check_variables({**template.environment, **overrides.environment}.items())
    return {**chosen, **reservation_variables(state)}


def _ignored(parameters: Sequence[Parameter]) -> tuple[str, ...]:
    if not parameters:
        return ()
    names = ", ".join(parameter.replace("_", " ") for parameter in parameters)
    return (f"Fixed for this resource, so what was asked for is ignored: {names}.",)
