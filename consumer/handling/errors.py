"""The errors a provisioner raises: each carries the decision of what happens next."""


class ProvisionerError(Exception):
    """A runtime could not do what was asked. `code` is one of docs/reference/reasons.md, `message` is fit for the user:
    no secrets, no stack traces, no host paths."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Transient(ProvisionerError):
    """It may work later: retried with backoff, not before `retry_after` seconds when the runtime asked for that."""

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class Busy(Transient):
    """Something else has to end first: waited for without counting attempts, `patience` seconds from the start on.

    None is as long as the reservation lasts.
    """

    def __init__(self, code: str, message: str, patience: float | None = None) -> None:
        super().__init__(code, message)
        self.patience = patience


class Queued(Busy):
    """A quota has no room now. Who has waited for it in vain is refused, as if it had not waited.

    `again` tells that it is not the first time.
    """

    def __init__(self, code: str, message: str, *, again: bool) -> None:
        super().__init__(code, message)
        self.again = again


class Permanent(ProvisionerError):
    """Trying again changes nothing."""


class Unavailable(ProvisionerError):
    """The runtime itself does not answer: nothing is wrong with the request, all of this runtime's work waits."""

    def __init__(self, message: str, runtime: str | None = None) -> None:
        super().__init__("runtime_unavailable", message)
        self.runtime = runtime
