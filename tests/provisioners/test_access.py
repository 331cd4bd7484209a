"""How a user gets in: the same lines whatever the runtime, and nothing in them that a shell would trip over."""

import pytest

from consumer.catalog.environment import AccessHints
from consumer.provisioners.access import build_access, hints_of, reachable_host
from schemas.outbound import AccessPort

HTTP, SSH = AccessPort(port=8080, host_port=32770), AccessPort(port=22, host_port=32771)


def test_a_page_and_an_ssh_server_become_lines_to_paste() -> None:
    access = build_access("gpu.example.org", [HTTP, SSH], AccessHints(8080, 22, "alice"))

    assert access.url == "http://gpu.example.org:32770"
    assert access.ssh == "ssh -p 32771 alice@gpu.example.org"
    assert access.ports == (SSH, HTTP)


def test_what_nothing_listens_for_is_absent() -> None:
    access = build_access("h", [HTTP], AccessHints())

    assert (access.url, access.ssh) == (None, None)


@pytest.mark.parametrize("hints", [AccessHints(80, 23), AccessHints(http_port=53, ssh_port=53)])
def test_hints_without_a_tcp_port_to_match_give_nothing(hints: AccessHints) -> None:
    access = build_access("h", [HTTP, SSH, AccessPort(port=53, host_port=53, protocol="udp")], hints)

    assert (access.url, access.ssh) == (None, None)


@pytest.mark.parametrize("login", ["-oProxyCommand=x", "a b", "a;b", "", "ä", "a" * 33, None])
def test_a_login_that_a_shell_could_misread_is_left_out(login: str | None) -> None:
    assert build_access("h", [SSH], AccessHints(ssh_port=22, ssh_user=login)).ssh == "ssh -p 32771 h"


def test_an_ipv6_address_is_bracketed_in_the_url_only() -> None:
    access = build_access("2001:db8::1", [HTTP, SSH], AccessHints(8080, 22))

    assert (access.url, access.ssh) == ("http://[2001:db8::1]:32770", "ssh -p 32771 2001:db8::1")


@pytest.mark.parametrize(
    ("bound", "public", "told"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("0.0.0.0", None, "localhost"),  # noqa: S104 - only a name here
        ("::", None, "localhost"),
        ("0.0.0.0", "gpu.example.org", "gpu.example.org"),  # noqa: S104 - only a name here
    ],
)
def test_users_are_told_a_host_they_can_reach(bound: str, public: str | None, told: str) -> None:
    assert reachable_host(bound, public) == told


@pytest.mark.parametrize("nonsense", ["", "x", "-1", "²", "8080.0"])
def test_a_label_that_is_no_number_is_no_hint(nonsense: str) -> None:
    assert hints_of({"moorage/http-port": nonsense}) == AccessHints()
