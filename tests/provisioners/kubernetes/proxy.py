"""A door in front of an API server that can be told to slam, or to send everybody away who watches."""

import asyncio
import json
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import load_kube_config

from tests.provisioners.docker.proxy import Action, EngineProxy


class ApiProxy(EngineProxy):
    """Listens without TLS, and is whom the kubeconfig it stands for says."""

    def __init__(self, kubeconfig: str, folder: Path) -> None:
        super().__init__(folder, folder)
        self.kubeconfig = folder / "proxied.kubeconfig"
        self.down = False
        """Whether nobody is let in, as when a server is started again."""

        self.latency = 0.0
        """Seconds that each request is on its way."""
        self._original = kubeconfig
        self._upstream = Configuration()
        self._watches: set[asyncio.StreamWriter] = set()

    def refuse(self, pattern: str, status: int, message: str = "", **more: Any) -> None:
        """Answer such requests as the API server would that says no."""
        said = {
            "kind": "Status",
            "status": "Failure",
            "code": status,
            "message": message,
            "reason": more.pop("reason", ""),
        }
        self.answer(pattern, status, "", raw=json.dumps(said).encode(), **more)

    def cut_watches(self) -> int:
        """End all watches that are open, in the middle; how many there were."""
        cut = len(self._watches)
        for writer in self._watches:
            writer.transport.abort()
        return cut

    async def _listen(self) -> asyncio.Server:
        await load_kube_config(self._original, client_configuration=self._upstream)
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                    "users": [{"name": "x", "user": {}}],
                    "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                    "current-context": "x",
                }
            )
        )
        return server

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = urlsplit(self._upstream.host)
        context = ssl.create_default_context(cafile=self._upstream.ssl_ca_cert)
        if self._upstream.cert_file:
            context.load_cert_chain(self._upstream.cert_file, self._upstream.key_file)
        return await asyncio.open_connection(where.hostname, where.port, ssl=context)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        await super()._accept(reader, writer)

    async def _pass_on(self, request: bytes, writer: asyncio.StreamWriter, action: Action | None) -> None:
        await asyncio.sleep(self.latency)
        watches = b"watch=true" in request.partition(b"\r\n")[0]
        if watches:
            self._watches.add(writer)
        try:
            with suppress(ConnectionError, ssl.SSLError):
                await super()._pass_on(request, writer, action)
        finally:
            self._watches.discard(writer)
