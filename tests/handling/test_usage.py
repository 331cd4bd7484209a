"""How many processors an environment keeps busy, from what its runtime can tell."""

from datetime import UTC, datetime, timedelta

from consumer.handling.usage import Usage

NOW = datetime(2030, 5, 17, 9, 0, tzinfo=UTC)


def test_a_counter_needs_two_looks() -> None:
    first = Usage(NOW, 10.0, 0)

    assert first.cores_since(None) is None
    assert Usage(NOW + timedelta(seconds=10), 25.0, 0).cores_since(first) == 1.5


def test_a_runtime_without_a_counter_says_it_at_once() -> None:
    seen = Usage(NOW, None, 0, cores=0.25)

    assert seen.cores_since(None) == 0.25
    assert seen.cores_since(Usage(NOW, 3.0, 0)) == 0.25
    assert Usage(NOW, 3.0, 0).cores_since(seen) is None
