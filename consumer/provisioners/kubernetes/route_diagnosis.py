"""What an operator should know of the ways into a cluster that templates name."""

from collections.abc import Iterator

from consumer.catalog.needs import Needs
from consumer.catalog.routes import Gateway, Ingress
from consumer.handling.errors import ProvisionerError
from consumer.handling.ports import Finding, Level
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Answer, NoSuchApi, NotAllowed
from consumer.provisioners.kubernetes.kinds import HTTP_ROUTE, Object, name_of
from consumer.provisioners.kubernetes.permissions import INGRESS_CLASSES

_CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
_IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


async def diagnose_routes(client: Client, needs: Needs) -> list[Finding]:
    """Everything that can be told."""
    ingresses = [(name, route) for name, route in needs.routes if isinstance(route, Ingress)]
    gateways = [name for name, route in needs.routes if isinstance(route, Gateway)]
    found = await _ingresses(client, ingresses) if ingresses else []
    return [*found, *(await _gateways(client, gateways) if gateways else [])]


async def _ingresses(client: Client, templates: list[tuple[str, Ingress]]) -> list[Finding]:
    try:
        classes = (await client.ask("GET", _CLASSES)).get("items") or []
    except NotAllowed:
        what = "Moorage may not look whether there are the Ingress classes that templates name."
        return [Finding(Level.WARNING, "Ingress", what, f"Add to a ClusterRole: {INGRESS_CLASSES}")]
    except (ProvisionerError, Answer) as error:
        return [Finding(Level.WARNING, "Ingress", f"Its classes cannot be known. {error}")]
    return [finding for name, route in templates for finding in _class(name, route, classes)]


def _class(template: str, route: Ingress, classes: list[Object]) -> Iterator[Finding]:
    known = {name_of(each) for each in classes}
    if route.class_name is not None and route.class_name not in known:
        what = f"The cluster has no Ingress class {route.class_name}: nothing would lead to the environments."
        remedy = f"Name one of these: {', '.join(sorted(known))}." if known else "Install an Ingress controller."
        yield Finding(Level.ERROR, f"template {template}", what, remedy)
    if route.class_name is None and not any(_is_default(each) for each in classes):
        what = "It names no Ingress class, and the cluster has no default one."
        yield Finding(Level.WARNING, f"template {template}", what, "Write `class_name` in its `ingress`.")


def _is_default(ingress_class: Object) -> bool:
    return (ingress_class["metadata"].get("annotations") or {}).get(_IS_DEFAULT) == "true"


async def _gateways(client: Client, templates: list[str]) -> list[Finding]:
    try:
        await client.ask("GET", f"/apis/{HTTP_ROUTE.api_version}")
    except NoSuchApi:
        what = f"The cluster has no Gateway API ({HTTP_ROUTE.api_version}), and starts by it are refused."
        remedy = "Install its standard channel and a controller, or give the templates an `ingress` instead."
        return [Finding(Level.ERROR, f"template {name}", what, remedy) for name in templates]
    except (ProvisionerError, Answer) as error:
        return [Finding(Level.WARNING, "Gateway API", f"Whether it is there cannot be known. {error}")]
    return []
