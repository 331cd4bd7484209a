"""What a registry's refusals are told as. By what they are recognised is a matter of whoever pulls."""

from consumer.handling.errors import Permanent, Transient

_RATE_LIMIT_PAUSE = 60.0


def limited(name: str) -> Transient:
    return Transient("image_pull_failed", f"The registry limits how often {name} may be pulled.", _RATE_LIMIT_PAUSE)


def denied(name: str, *, with_login: bool) -> Permanent:
    """`with_login` when it was pulled with one of the service's."""
    wants = "does not accept the service's login" if with_login else "wants a login"
    return Permanent("image_pull_denied", f"The image {name} does not exist or its registry {wants}.")


def not_found(name: str) -> Permanent:
    return Permanent("image_not_found", f"The image {name} was not found, or not for this architecture.")
