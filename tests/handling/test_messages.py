"""What people read: whole sentences, whole addresses, times they know, never more than the platform takes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.catalog.environment import AccessHints
from consumer.catalog.templates import Catalog
from consumer.handling import lifecycle
from consumer.handling.advice import ADVICE
from consumer.handling.messages import Messenger
from consumer.provisioners import reasons
from consumer.provisioners.access import build_access
from schemas.examples import example_notification, example_result
from schemas.outbound import (
    NOTIFICATION_LIMIT,
    Access,
    AccessPort,
    Kubectl,
    NotificationType,
    Outcome,
    Reason,
    Result,
    SecretKey,
)
from tools.reasons import documented

ROME = ZoneInfo("Europe/Rome")
READY = "GPU Server 1 is ready until 10:00 UTC."
WHY = Reason(code="x", message="Because it is so.")
IN = "Log in: ssh -p 32771 user@lab-3.example.org · In a browser: http://lab-3.example.org:32772"


def result(outcome: Outcome = Outcome.PROVISIONED, **changes: Any) -> Result:
    return example_result().model_copy(update={"outcome": outcome} | changes)


def message(outcome: Outcome = Outcome.PROVISIONED, *notes: str, zone: ZoneInfo | None = None, **changes: Any) -> str:
    return Messenger(zone=zone or UTC).message_for(result(outcome, notes=notes, **changes))[0]


@pytest.mark.parametrize(
    ("outcome", "reason", "text", "kind"),
    [
        (Outcome.PROVISIONED, None, f"{READY} {IN}", NotificationType.SUCCESS),
        (
            Outcome.UPDATED,
            None,
            f"GPU Server 1 now runs until 10:00 UTC. You get in as before. {IN}",
            NotificationType.INFO,
        ),
        (
            Outcome.RELEASED,
            None,
            "Your environment on GPU Server 1 was removed. The reservation has ended.",
            NotificationType.INFO,
        ),
        (
            Outcome.RELEASED,
            WHY,
            "Your environment on GPU Server 1 was removed. Because it is so.",
            NotificationType.INFO,
        ),
        (
            Outcome.EXPIRED,
            None,
            "Your reservation of GPU Server 1 ran out at 10:00 UTC, and its environment was removed.",
            NotificationType.INFO,
        ),
        (Outcome.SKIPPED, WHY, "GPU Server 1 was not started. Because it is so.", NotificationType.WARNING),
        (Outcome.FAILED, WHY, "GPU Server 1 is not available. Because it is so.", NotificationType.ERROR),
    ],
)
def test_every_outcome_reads_well(outcome: Outcome, reason: Reason | None, text: str, kind: NotificationType) -> None:
    assert Messenger().message_for(result(outcome, reason=reason)) == (text, kind)


def test_the_documented_notification_is_what_the_documented_result_comes_to() -> None:
    documented = example_notification()
    assert Messenger().message_for(example_result()) == (documented.message, documented.type)


def test_a_resource_without_a_name_is_called_by_its_id() -> None:
    for name in (None, "", " \n", "\u200b"):
        assert message(resource_name=name, access=None) == "Resource 12 is ready until 10:00 UTC."


def test_a_name_cannot_break_the_line_or_turn_it_around() -> None:
    name = "GPU\r\n\u202e1\x1b[2J\u2028\x00!"
    assert message(resource_name=name, access=None) == "GPU 1 [2J ! is ready until 10:00 UTC."


def test_ports_that_no_line_names_are_listed() -> None:
    ports = (AccessPort(port=53, host_port=4000, protocol="udp"), AccessPort(port=80, host_port=32772))
    access = Access(host="h", ports=ports, url="http://h:32772/")
    assert message(access=access) == f"{READY} In a browser: http://h:32772/ · Port 53/udp: h:4000"


def test_a_host_with_colons_is_told_from_its_port() -> None:
    access = Access(host="2001:db8::1", ports=(AccessPort(port=80, host_port=8080),))
    assert message(access=access) == f"{READY} Port 80: [2001:db8::1]:8080"


def test_nothing_to_get_in_by_is_no_sentence() -> None:
    assert message(access=None) == READY
    assert message(Outcome.UPDATED, access=None) == "GPU Server 1 now runs until 10:00 UTC."


def test_what_is_not_as_asked_for_is_said_before_the_addresses() -> None:
    text = message(Outcome.PROVISIONED, "The image is another one.", "Memory is fixed.")
    assert text == f"{READY} The image is another one. Memory is fixed. {IN}"


def test_addresses_matter_more_than_what_is_not_as_asked_for() -> None:
    assert message(Outcome.PROVISIONED, "x" * 400, "Memory is fixed.") == f"{READY} Memory is fixed. {IN}"


def test_a_way_in_too_long_to_tell_makes_room_for_the_others() -> None:
    access = Access(host="h", ssh="ssh " + "h" * 600, url="http://h:1")
    assert message(access=access) == f"{READY} In a browser: http://h:1"


KUBECTL = Kubectl(
    logs="kubectl -n labs logs -f pod/x",
    exec="kubectl -n labs exec -it pod/x -- sh",
    port_forward=("kubectl -n labs port-forward pod/x 8888:80", "kubectl -n labs port-forward pod/x 8443:443"),
)
LOGIN = SecretKey(namespace="labs", secret="x-kubeconfig", key="kubeconfig")


@pytest.mark.parametrize(
    ("host", "kubectl", "more"),
    [
        ("x.labs.svc", KUBECTL, f" · With kubectl: {KUBECTL.port_forward[0]}"),
        ("x.labs.svc", KUBECTL.model_copy(update={"port_forward": ()}), f" · With kubectl: {KUBECTL.exec}"),
        ("192.0.2.7", KUBECTL, ""),
        ("192.0.2.7", KUBECTL.model_copy(update={"kubeconfig": LOGIN}), f" · With kubectl: {KUBECTL.port_forward[0]}"),
        ("192.0.2.7", None, ""),
    ],
)
def test_kubectl_is_told_of_where_it_is_needed_or_allowed(host: str, kubectl: Kubectl | None, more: str) -> None:
    access = Access(host=host, url=f"http://{host}:80", kubectl=kubectl)
    assert message(access=access) == f"{READY} In a browser: http://{host}:80{more}"


def test_kubectl_is_not_told_of_where_a_page_is_reached_from_outside() -> None:
    access = Access(host="x.labs.svc", url="https://x.labs.example.org", kubectl=KUBECTL)
    assert message(access=access) == f"{READY} In a browser: https://x.labs.example.org"


def test_long_refusals_keep_their_advice() -> None:
    advice = "Ask for one of: " + ", ".join(f"image-{number}" for number in range(30)) + "."
    reason = Reason(code="image_not_allowed", message=f"{'No. ' * 5}{advice}")
    assert message(Outcome.FAILED, reason=reason).endswith("image-29.")


def test_what_is_too_long_is_cut_between_words() -> None:
    page = "https://docs.example.org/a-rather-long-page-about-it"
    text = message(Outcome.FAILED, reason=Reason(code="x", message=" ".join([page] * 20)))
    assert text.endswith(f"{page} …")
    assert set(text.removeprefix("GPU Server 1 is not available. ").removesuffix(" …").split()) == {page}


def test_advice_is_kept_when_the_reason_is_long() -> None:
    text = message(Outcome.FAILED, reason=Reason(code="runtime_full", message="No space. " * 90))
    assert text.endswith(" No space.… Book again later, or ask whoever runs this service and name reservation 1841.")


def test_every_failure_of_a_runtime_comes_with_advice_and_no_advice_is_for_nothing() -> None:
    could_not_be_done = {*lifecycle.REASONS, *reasons.REASONS, "lost", "ended", "out_of_memory"}
    assert could_not_be_done - set(ADVICE) == set()
    assert set(ADVICE) - documented() == set()


def test_who_was_postponed_is_told_when_it_goes_on() -> None:
    later = example_result().start + timedelta(days=1)
    text = message(Outcome.RELEASED, zone=ROME, reason=Reason(code="postponed", message="Moved."), start=later)
    assert text == ("Your environment on GPU Server 1 was removed. Moved. You get a new one at 09:00 CET on 3 March.")


@pytest.mark.parametrize(
    ("zone", "now", "end", "said"),
    [
        ("UTC", "2026-03-02T07:55", "2026-03-02T10:00", "10:00 UTC"),
        ("Europe/Rome", "2026-03-02T07:55", "2026-03-02T10:00", "11:00 CET"),
        ("Europe/Rome", "2026-07-02T07:55", "2026-07-02T08:00", "10:00 CEST"),
        # the night in which a clock goes forward, and the one in which it goes back
        ("Europe/Rome", "2026-03-29T00:10", "2026-03-29T00:59", "01:59 CET"),
        ("Europe/Rome", "2026-03-29T00:10", "2026-03-29T01:00", "03:00 CEST"),
        ("Europe/Rome", "2026-10-25T00:10", "2026-10-25T00:30", "02:30 CEST"),
        ("Europe/Rome", "2026-10-25T00:10", "2026-10-25T01:30", "02:30 CET"),
        # another day, there if not in Greenwich
        ("UTC", "2026-03-02T23:55", "2026-03-03T00:30", "00:30 UTC on 3 March"),
        ("Europe/Rome", "2026-03-02T20:55", "2026-03-02T23:30", "00:30 CET on 3 March"),
        ("Asia/Tokyo", "2026-03-02T14:00", "2026-03-02T14:59", "23:59 JST"),
        ("Europe/Rome", "2026-12-31T20:00", "2026-12-31T23:30", "00:30 CET on 1 January 2027"),
        # zones whose name is an offset
        ("America/Sao_Paulo", "2026-03-02T07:55", "2026-03-02T10:00", "07:00 UTC-03"),
        ("Asia/Kathmandu", "2026-03-02T07:55", "2026-03-02T10:00", "15:45 UTC+0545"),
    ],
)
def test_times_are_those_of_the_zone(zone: str, now: str, end: str, said: str) -> None:
    moments = {"occurred_at": datetime.fromisoformat(now + "Z"), "end": datetime.fromisoformat(end + "Z")}
    assert message(zone=ZoneInfo(zone), access=None, **moments) == f"GPU Server 1 is ready until {said}."


OWN_WORDS = """
version: 1
messages:
  provisioned: "Ciao {user}! {resource} è pronta ({start} - {until}).[ Accesso: {ssh}][ Pagina: {url}][ Porte: {ports}]"
  skipped: "{resource} (n. {reservation}): {reason}[ {advice}]"
templates:
  - {name: linux, runtime: docker, image: nginx}
"""


def test_operators_have_words_of_their_own() -> None:
    messenger = Messenger(Catalog.from_yaml(OWN_WORDS, instance="lab").messages_for, ROME)
    ports = (AccessPort(port=53, host_port=4000, protocol="udp"), AccessPort(port=5432, host_port=4001))
    access = Access(host="h", ports=ports, ssh="ssh -p 22 u@h")
    assert messenger.message_for(result(access=access))[0] == (
        "Ciao mario_rossi! GPU Server 1 è pronta (09:00 CET - 11:00 CET). Accesso: ssh -p 22 u@h "
        "Porte: h:4000 (53/udp) · h:4001 (5432)"
    )
    assert messenger.message_for(result(Outcome.SKIPPED, reason=WHY))[0] == "GPU Server 1 (n. 1841): Because it is so."
    assert messenger.message_for(result(Outcome.FAILED, reason=WHY))[0].startswith("GPU Server 1 is not available.")


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
    st.sampled_from(sorted(available_timezones())),
)
def test_no_message_is_too_long_and_none_has_half_an_address(
    outcome: Outcome,
    name: str | None,
    why: str | None,
    access: Access | None,
    notes: list[str],
    end: datetime,
    zone: str,
) -> None:
    reason = None if why is None else Reason(code="x", message=why)
    messenger = Messenger(zone=ZoneInfo(zone))
    text, kind = messenger.message_for(
        result(outcome, resource_name=name, reason=reason, access=access, end=end, notes=notes)
    )
    assert 0 < len(text) <= NOTIFICATION_LIMIT
    assert text.isprintable()
    assert kind in NotificationType
    if outcome not in (Outcome.PROVISIONED, Outcome.UPDATED) or access is None:
        return
    for way, marker in ((access.url, "http://"), (access.ssh, "ssh -p ")):
        if way is not None and marker in text.removeprefix(name or "") and not any(marker in note for note in notes):
            assert way in text
