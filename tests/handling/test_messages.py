"""What people read: whole sentences, whole addresses, never more than the platform takes."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.environment import AccessHints
from consumer.handling.messages import message_for
from consumer.provisioners.access import build_access
from schemas.examples import example_result
from schemas.outbound import NOTIFICATION_LIMIT, Access, AccessPort, NotificationType, Outcome, Reason, Result


def result(outcome: Outcome = Outcome.PROVISIONED, **changes: Any) -> Result:
    return example_result().model_copy(update={"outcome": outcome} | changes)


def message(outcome: Outcome = Outcome.PROVISIONED, **changes: Any) -> str:
    return message_for(result(outcome, **changes))[0]


WHY = Reason(code="x", message="Because it is so.")


@pytest.mark.parametrize(
    ("outcome", "reason", "text", "kind"),
    [
        (
            Outcome.PROVISIONED,
            None,
            (
                "GPU Server 1 is ready until 10:00 UTC on 2 March. ssh -p 32771 user@lab-3.example.org "
                "http://lab-3.example.org:32772/"
            ),
            NotificationType.SUCCESS,
        ),
        (Outcome.UPDATED, None, "GPU Server 1 now runs until 10:00 UTC on 2 March.", NotificationType.INFO),
        (Outcome.RELEASED, None, "GPU Server 1 was released.", NotificationType.INFO),
        (Outcome.RELEASED, WHY, "GPU Server 1 was released. Because it is so.", NotificationType.INFO),
        (
            Outcome.EXPIRED,
            None,
            "The reservation of GPU Server 1 ran out at 10:00 UTC on 2 March; its environment was removed.",
            NotificationType.INFO,
        ),
        (Outcome.SKIPPED, WHY, "GPU Server 1 was not started. Because it is so.", NotificationType.WARNING),
        (Outcome.FAILED, WHY, "GPU Server 1 could not be provided. Because it is so.", NotificationType.ERROR),
    ],
)
def test_every_outcome_reads_well(outcome: Outcome, reason: Reason | None, text: str, kind: NotificationType) -> None:
    assert message_for(result(outcome, reason=reason)) == (text, kind)


def test_a_resource_without_a_name_is_called_by_its_id() -> None:
    assert message(Outcome.RELEASED, resource_name=None) == "Resource 12 was released."


def test_ports_that_no_line_names_are_listed() -> None:
    ports = (AccessPort(port=53, host_port=4000, protocol="udp"), AccessPort(port=80, host_port=32772))
    access = Access(host="h", ports=ports, url="http://h:32772/")
    assert message(access=access).endswith("2 March. http://h:32772/ h:4000 (port 53/udp)")


def test_a_host_with_colons_is_told_from_its_port() -> None:
    access = Access(host="2001:db8::1", ports=(AccessPort(port=80, host_port=8080),))
    assert message(access=access).endswith(" [2001:db8::1]:8080 (port 80)")


def test_nothing_to_get_in_by_is_no_sentence() -> None:
    assert message(access=None) == "GPU Server 1 is ready until 10:00 UTC on 2 March."


def test_what_is_not_as_asked_for_is_said() -> None:
    text, _ = message_for(result(access=None), ("The image is another one.", "Memory is fixed."))
    assert text.endswith("2 March. The image is another one. Memory is fixed.")


def test_a_way_in_too_long_to_tell_makes_room_for_the_others() -> None:
    access = Access(host="h", ssh="ssh " + "h" * 600, url="http://h:1")
    assert message(access=access).endswith("2 March. http://h:1")


def test_long_refusals_keep_their_advice() -> None:
    advice = "Ask for one of: " + ", ".join(f"image-{number}" for number in range(30)) + "."
    reason = Reason(code="image_not_allowed", message=f"{'No. ' * 5}{advice}")
    assert message(Outcome.FAILED, reason=reason).endswith("image-29.")


def test_what_is_too_long_is_cut_between_words() -> None:
    reason = Reason(code="x", message=" ".join(["https://docs.example.org/a-rather-long-page-about-it"] * 20))
    text = message(Outcome.FAILED, reason=reason)
    assert text.endswith("-about-it…")
    assert set(text.removesuffix("…").split()[7:]) == {"https://docs.example.org/a-rather-long-page-about-it"}


texts = st.text(max_size=700)
hosts = st.from_regex(r"[a-z0-9.-]{1,260}|[0-9a-f:]{2,39}", fullmatch=True)
ports = st.builds(
    AccessPort,
    port=st.integers(1, 65535),
    host_port=st.integers(1, 65535),
    protocol=st.sampled_from(["tcp", "udp"]),
)
hints = st.builds(
    AccessHints,
    http_port=st.none() | st.integers(1, 65535),
    ssh_port=st.none() | st.integers(1, 65535),
    ssh_user=st.none() | st.just("student"),
)


@st.composite
def accesses(draw: st.DrawFn) -> Access:
    published = draw(st.lists(ports, max_size=40))
    hint, pointed = draw(hints), draw(st.booleans())
    if published and pointed:
        hint = AccessHints(http_port=published[0].port, ssh_port=published[-1].port, ssh_user="student")
    return build_access(draw(hosts), published, hint)


@given(
    st.sampled_from(Outcome),
    st.none() | texts,
    st.none() | texts,
    st.none() | accesses(),
    st.lists(st.text(max_size=120), max_size=4),
    st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31), timezones=st.just(UTC)),
)
def test_no_message_is_too_long_and_none_has_half_an_address(
    outcome: Outcome, name: str | None, why: str | None, access: Access | None, notes: list[str], end: datetime
) -> None:
    reason = None if why is None else Reason(code="x", message=why)
    text, kind = message_for(result(outcome, resource_name=name, reason=reason, access=access, end=end), notes)
    assert 0 < len(text) <= NOTIFICATION_LIMIT
    assert kind in NotificationType
    if outcome is not Outcome.PROVISIONED or access is None:
        return
    for way, marker in ((access.url, "http://"), (access.ssh, "ssh -p ")):
        if way is not None and marker in text.removeprefix(name or "") and not any(marker in note for note in notes):
            assert way in text
