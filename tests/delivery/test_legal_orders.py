"""The law that the results of a teaching day are held to: it lets pass what is right, and nothing else."""

import pytest

from tests.support.legal import Standing, Told, follow

LEGAL = {
    "provisioned, released": Standing.ENDED,
    "skipped:remembered, provisioned, provisioned, updated, expired:expired": Standing.IDLE,
    "provisioned, expired:expired, provisioned, released, skipped:already_ended": Standing.ENDED,
    "provisioned, released:moved, provisioned, released, released": Standing.ENDED,
    "provisioned, released:postponed, updated, provisioned, expired:expired": Standing.IDLE,
    "provisioned, released:ended_by_update, skipped:nothing_to_release": Standing.ENDED,
    "skipped:ended_while_starting, released": Standing.ENDED,
    "failed:start_timeout, skipped:nothing_to_release": Standing.ENDED,
}
ILLEGAL = (
    "released",
    "expired:expired",
    "provisioned, released, provisioned",
    "provisioned, expired:expired, expired:expired",
    "provisioned, released, expired:expired",
    "provisioned, released:moved, expired:expired",
    "provisioned, released:moved, released:moved",
    "provisioned, released:postponed, released:postponed",
    "provisioned, failed:lost",
    "skipped:ended_while_starting, provisioned",
    "skipped:nothing_to_release, updated",
)


def told(text: str, *, every_ms: int = 1000, since_ms: int = 100_000) -> list[Told]:
    return [Told(since_ms + number * every_ms, what) for number, what in enumerate(text.split(", "))]


@pytest.mark.parametrize("text", LEGAL)
def test_what_is_right_passes(text: str) -> None:
    assert follow(told(text)) == {LEGAL[text]}


@pytest.mark.parametrize("text", ILLEGAL)
def test_what_is_wrong_does_not(text: str) -> None:
    assert follow(told(text)) == frozenset()


def test_what_was_told_just_before_a_kill_may_be_told_again() -> None:
    again = told("provisioned, released:postponed, released:postponed")
    assert follow(again, kills_ms=[101_500]) == {Standing.IDLE}
    assert follow(again, kills_ms=[100_500]) == frozenset()  # the release came after that


def test_a_kill_long_afterwards_excuses_nothing() -> None:
    ended = [*told("provisioned, released"), Told(190_000, "provisioned")]
    assert follow(ended, kills_ms=[180_000]) == frozenset()


def test_an_end_finds_what_was_begun_before_a_kill_and_never_told() -> None:
    assert follow(told("skipped:remembered, released"), kills_ms=[100_500]) == {Standing.ENDED}


def test_what_a_kill_may_have_taken_away_may_be_missed_and_nothing_else() -> None:
    lost = told("provisioned, updated, failed:lost")
    assert follow(lost, kills_ms=[100_500]) == {Standing.IDLE}
    assert follow(lost) == frozenset()


def test_what_still_runs_after_all_is_seen() -> None:
    assert follow(told("provisioned, updated")) == {Standing.RUNNING}
    assert follow(told("provisioned"), kills_ms=[150_000]) == {Standing.RUNNING, Standing.UNCERTAIN}
