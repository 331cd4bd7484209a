"""Sums of what is in use, by account."""

from consumer.catalog.quotas import Account, Holding, Usage

_NOTHING = Usage()


class Tally:
    """Adds and subtracts; accounts of which nothing is left are forgotten."""

    def __init__(self) -> None:
        self._sums: dict[Account, list[int]] = {}  # changed in place: a takeover may add hundreds of thousands

    def used(self, account: Account) -> Usage:
        found = self._sums.get(account)
        return Usage(*found) if found is not None else _NOTHING

    def all(self) -> dict[Account, Usage]:
        return {account: Usage(*found) for account, found in self._sums.items()}

    def add(self, holding: Holding) -> None:
        environments, cpu, memory = holding.usage
        for account in holding.accounts:
            if (found := self._sums.get(account)) is not None:
                found[0] += environments
                found[1] += cpu
                found[2] += memory
            else:
                self._sums[account] = [environments, cpu, memory]

    def remove(self, holding: Holding) -> None:
        environments, cpu, memory = holding.usage
        for account in holding.accounts:
            found = self._sums[account]
            found[0] -= environments
            found[1] -= cpu
            found[2] -= memory
            if not any(found):
                del self._sums[account]
