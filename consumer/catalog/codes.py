"""Every reason for which the catalog refuses a reservation, in one line each: docs and tests are made from this."""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "no_template": "No template serves this resource, so nothing can be provisioned for it.",
        "override_not_allowed": "The reservation asks to change something that the template keeps fixed.",
        "parameter_ambiguous": "Two labels of the reservation mean the same parameter and their values differ.",
        "image_invalid": "The image asked for is not a valid image name.",
        "image_not_allowed": "The image asked for is valid, but not on the allow-list.",
        "quantity_invalid": "A CPU, memory or storage limit is not a quantity above zero.",
        "limit_above_maximum": "A limit asked for is above the most that the template offers.",
        "limit_below_minimum": "A limit asked for is below the least that the template offers.",
        "ports_invalid": "The ports asked for cannot be read, are out of bounds, too many, or clash.",
        "host_port_not_allowed": "A host port asked for is outside the range that the template offers.",
        "ssh_key_missing": "The template insists on the user's SSH public key, and none is known.",
        "ssh_key_invalid": "The template insists on the user's SSH public key, and what is known is not a usable one.",
        "quota_exceeded": "A quota has no room for this environment: its user's, its template's, or that of all.",
        "no_capacity": "Every engine that could run this environment has as many as it may have.",
        "environment_invalid": "The environment variables cannot be read, are too many or too long, or are denied.",
    }
)
