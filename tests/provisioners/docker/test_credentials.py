"""Files with logins: read as Docker reads them, refused with a sentence that shows no secret."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumer.provisioners.credentials import RegistryCredentials, read_logins

SECRET = "hunter2"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def written(folder: Path, content: Any) -> Path:
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(folder: Path, auths: dict[str, Any], **more: Any) -> dict[str, dict[str, str]]:
    return {host: dict(login) for host, login in read_logins(written(folder, {"auths": auths, **more})).items()}


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("registry.example.org", "registry.example.org"),
        ("Registry.Example.ORG:5000", "registry.example.org:5000"),
        ("https://registry.example.org/v2/", "registry.example.org"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_keys_name_registries_in_many_ways(tmp_path: Path, key: str, registry: str) -> None:
    login = {"username": "lab", "password": SECRET, "serveraddress": registry}
    assert read(tmp_path, {key: {"auth": encoded(f"lab:{SECRET}")}}) == {registry: login}


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": encoded("lab:a:b")}, {"username": "lab", "password": "a:b"}),
        ({"auth": encoded("lab:")}, {"username": "lab", "password": ""}),
        ({"auth": "", "username": "lab", "password": "x"}, {"username": "lab", "password": "x"}),
        ({"auth": encoded("lab:x"), "email": "lab@example.org"}, {"username": "lab", "password": "x"}),
        ({"auth": encoded("00000000-0000-0000-0000-000000000000:"), "identitytoken": "t"}, {"identitytoken": "t"}),
        ({"registrytoken": "t"}, {"registrytoken": "t"}),
    ],
)
def test_entries_hold_logins_in_many_ways(tmp_path: Path, entry: dict[str, str], login: dict[str, str]) -> None:
    assert read(tmp_path, {"r.example.org": entry}) == {"r.example.org": login | {"serveraddress": "r.example.org"}}


@pytest.mark.parametrize(
    ("image", "user"),
    [
        ("r.example.org/team/app:1", "r"),
        ("r.example.org:5000/team/app:1", "r5000"),
        ("nginx:1.27", "hub"),
        ("docker.io/library/nginx:1.27", "hub"),
        ("team/app", "hub"),
        (f"r.example.org/app@sha256:{'a' * 64}", "r"),
        ("other.example.org/app:1", None),
        ("example.org/r.example.org/app:1", None),
    ],
)
def test_an_image_gets_the_login_of_its_own_registry(tmp_path: Path, image: str, user: str | None) -> None:
    auths = {"r.example.org": "r", "r.example.org:5000": "r5000", "https://index.docker.io/v1/": "hub"}
    path = written(tmp_path, {"auths": {key: {"auth": encoded(f"{name}:{SECRET}")} for key, name in auths.items()}})

    login = RegistryCredentials(path).login_for(image)

    assert (login["username"] if login else None) == user


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        (f"lab:{SECRET}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\0\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), "not JSON"),
        ([], "not an object"),
        ({"auths": [SECRET]}, "`auths` is not an object"),
        ({"auths": {"r": SECRET}}, "entry for r is not an object"),
        ({"auths": {"r": {"auth": SECRET}}}, "not the Base64 of user:password"),
        ({"auths": {"r": {"auth": encoded(SECRET)}}}, "not the Base64 of user:password"),
        ({"auths": {"r": {"auth": encoded(f":{SECRET}")}}}, "names no user"),
        ({"auths": {"r": {"auth": [SECRET]}}}, "not made of texts"),
        ({"auths": {"r": {"password": SECRET}}}, "half a login"),
        ({"auths": {"r": {}}, "credsStore": "desktop"}, "credential helper"),
        ({"credHelpers": {"r": "ecr-login"}}, "credential helper"),
        (" " * 1_048_577, "too large"),
    ],
)
def test_what_is_no_such_file_is_refused_without_showing_it(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        RegistryCredentials(written(tmp_path, content))
    assert SECRET not in str(error.value)
    assert encoded(SECRET) not in str(error.value)
    assert "config.json" in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        RegistryCredentials(tmp_path / "config.json")


def test_helpers_beside_logins_are_not_run_and_said_to_be_ignored(tmp_path: Path) -> None:
    auths = {"r.example.org": {"auth": encoded(f"lab:{SECRET}")}, "other.example.org": {}}
    with capture_logs() as logs:
        assert list(read(tmp_path, auths, credHelpers={"other.example.org": "ecr-login"})) == ["r.example.org"]
    (entry,) = logs
    assert (entry["event"], entry["names"]) == ("credential_helpers_ignored", ["credHelpers"])
    assert SECRET not in str(entry)


def test_a_file_without_logins_is_one(tmp_path: Path) -> None:
    assert read(tmp_path, {}) == {}
    assert RegistryCredentials(written(tmp_path, {})).login_for("nginx:1") is None


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, {"auths": {"docker.io": {"auth": encoded("old:x")}}})
    credentials = RegistryCredentials(path)
    image = "nginx:1.27"

    written(tmp_path, {"auths": {"docker.io": {"auth": encoded("newer:x")}}})
    assert (credentials.login_for(image) or {})["username"] == "newer"

    for broken in ("{", None):
        path.unlink() if broken is None else path.write_text(broken)
        with capture_logs() as logs:
            assert (credentials.login_for(image) or {})["username"] == "newer"
        assert [entry["event"] for entry in logs] == ["registry_credentials_unreadable"]

    written(tmp_path, {"auths": {}})
    assert credentials.login_for(image) is None
