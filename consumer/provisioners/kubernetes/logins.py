"""Logins for private registries, as nodes take them: a secret of the pod with the one that it needs. No I/O here."""

import base64
import json
from typing import Any

from consumer.catalog.images import DEFAULT_DOMAIN
from consumer.provisioners.credentials import Login

_DOCKER_HUB = "https://index.docker.io/v1/"
"""The key that nodes look for Docker Hub's login under."""


def secret_name(environment: str) -> str:
    return f"{environment}-pull"


def login_secret_of(login: Login, about: dict[str, Any]) -> dict[str, Any]:
    """`about` is the metadata of the environment's other secret."""
    registry = login["serveraddress"]
    entry = {name: value for name, value in login.items() if name != "serveraddress"}
    if "username" in entry:
        entry["auth"] = base64.b64encode(f"{entry['username']}:{entry['password']}".encode()).decode()
    document = {"auths": {_DOCKER_HUB if registry == DEFAULT_DOMAIN else registry: entry}}
    return {
        "metadata": about | {"name": secret_name(about["name"])},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(document)},
    }
