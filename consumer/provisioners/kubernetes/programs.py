"""Logins that programs give out (`exec` of a kubeconfig): asked when there is need, and not waited for for ever."""

import asyncio
import json
import os
import signal
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from kubernetes_asyncio.config.exec_provider import ExecProvider
from kubernetes_asyncio.config.kube_config import FileOrData, KubeConfigLoader, KubeConfigMerger

from consumer.handling.errors import Unavailable

_MOST_SAID = 1024 * 1024
_WHO = "The program that the kubeconfig names for its login"
_CERTIFICATE = ("clientCertificateData", "clientKeyData")
_LOOK = "Run it as Moorage does to see why."


class Kubeconfig(KubeConfigLoader):
    """The client library's, but for programs: its own lets them linger, and logs all that they write."""

    cert_file: str | None
    key_file: str | None

    def __init__(self, files: str, context: str | None) -> None:
        super().__init__(KubeConfigMerger(files).config, active_context=context, config_base_path=None)

    async def load_from_exec_plugin(self) -> bool:
        user: Any = self._user
        status = await _credential(ExecProvider(user["exec"]))
        if "token" in status:
            self.token = f"Bearer {status['token']}"
        if "clientCertificateData" in status:
            self.cert_file, self.key_file = (
                FileOrData(status, "", name, base64_file_content=False).as_file() for name in _CERTIFICATE
            )
        return True


async def _credential(program: ExecProvider) -> Mapping[str, Any]:
    """The `status` of what a program says: with a token, or a certificate and its key. Raises `Unavailable`."""
    about = {"apiVersion": program.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = program.env | {"KUBERNETES_EXEC_INFO": json.dumps(about)}
    try:
        process = await asyncio.create_subprocess_exec(
            *program.args, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise Unavailable(f"{_WHO} cannot be started: {error.strerror}.") from error
    said = await _said(process)
    if process.returncode != 0:
        raise Unavailable(f"{_WHO} gives none, and ends with exit code {process.returncode}. {_LOOK}")
    try:
        answer = json.loads(said)
        version, status = answer["apiVersion"], {name: str(each) for name, each in answer["status"].items() if each}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unavailable(f"{_WHO} says something that is none. {_LOOK}") from error
    if version != program.api_version or not ("token" in status or status.keys() >= {*_CERTIFICATE}):
        raise Unavailable(f"{_WHO} says nothing that is one by {program.api_version}. {_LOOK}")
    return status


async def _said(process: Process) -> bytes:
    """What a program writes until it ends. One that is not waited for is killed, with all that it started."""
    output = cast("StreamReader", process.stdout)
    said, ended = b"", False
    try:
        while len(said) < _MOST_SAID and (more := await output.read(_MOST_SAID)):
            said += more
        if len(said) < _MOST_SAID:
            await process.wait()
            ended = True
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # What is still written is not read: not by something either that has left the group, and holds the pipe.
            process._transport.close()  # type: ignore[attr-defined]
            await process.wait()
    return said
