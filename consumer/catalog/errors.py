"""The two ways the catalog says no: to a user's reservation, and to an operator's template file."""

from collections.abc import Sequence


class Refused(Exception):
    """Policy said no to a reservation. `code` is one of `codes.REASONS`.

    `message` is fit for the user: what was refused, why, and what to do next. It holds no values of environment
    variables, and at most 80 characters of what the user typed, control characters escaped.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CatalogError(ValueError):
    """The operator's templates or defaults cannot be used. Each problem names file, line, entry, field and remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
