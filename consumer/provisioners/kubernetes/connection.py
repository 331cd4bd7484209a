"""Who we are to which API server: from the cluster that Moorage runs in, or from a kubeconfig."""

import asyncio
import os
from pathlib import Path

import yaml
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config

from consumer.handling.errors import ProvisionerError, Unavailable
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.programs import Kubeconfig
from consumer.provisioners.text import shortened, without_paths

_CONNECTIONS = 128
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_USUAL = "~/.kube/config"
_LONGEST_SAID = 200

Login = tuple[str | None, str | None, str | None]


class Connection:
    """The client library's connection, made when it is first needed."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._api: ApiClient | None = None
        self._outgoing: ApiClient | None = None
        """The one before, with another certificate: what was asked with it is still answered."""

        self._configuration = Configuration()
        self._configuration.connection_pool_maxsize = _CONNECTIONS
        self._making = asyncio.Lock()
        self._failure: tuple[float, str] | None = None
        """When it was last found that there is no login, and why."""

    async def api(self) -> ApiClient:
        """Raises `Unavailable` when there is no login, or none that can be read."""
        asked = asyncio.get_running_loop().time()
        async with self._making:
            if self._api is None:
                await self._log_in(asked)
                self._api = self._made()
            return self._api

    async def log_in_again(self, login: Login) -> bool:
        """Have a login anew, unless that was done since `login` was; True when there is another one now.

        Files that hold a token change, and what programs (`exec`) give out runs out.
        """
        asked = asyncio.get_running_loop().time()
        async with self._making:
            if self.login == login:
                await self._log_in(asked)
                if self._api is not None and self.login[1:] != login[1:]:
                    # Certificates are a connection's, and not told with each request.
                    before, self._api = self._api, self._made()
                    await self._leave(before)
            return self.login != login

    async def authority(self) -> bytes | None:
        """The certificates that the server's is held against; None for those that this machine trusts anyway."""
        await self.api()
        file: str | None = self._configuration.ssl_ca_cert
        return await asyncio.to_thread(Path(file).read_bytes) if file else None

    @property
    def in_cluster(self) -> bool:
        """Whether it is the cluster that Moorage runs in."""
        return not self._options.kubeconfig and not self._options.context and _IN_CLUSTER in os.environ

    @property
    def login(self) -> Login:
        """Who we are: by a token, or by the files with a certificate and its key."""
        configuration = self._configuration
        return configuration.api_key.get("BearerToken"), configuration.cert_file, configuration.key_file

    @property
    def server(self) -> str:
        return str(self._configuration.host)

    async def close(self) -> None:
        async with self._making:
            await self._leave(None)
            if self._api is not None:
                await self._api.close()
                self._api = None

    async def _leave(self, before: ApiClient | None) -> None:
        if self._outgoing is not None:
            await self._outgoing.close()
        self._outgoing = before

    def _made(self) -> ApiClient:
        try:
            api = ApiClient(self._configuration)
        except (OSError, ValueError) as error:
            raise Unavailable("The certificates of the kubeconfig cannot be used.") from error
        api.user_agent = "moorage"
        return api

    async def _log_in(self, asked: float) -> None:
        """Load the login, unless that was tried in vain since the caller asked: not each waits for a slow program."""
        if self._failure is not None and self._failure[0] >= asked:
            raise Unavailable(self._failure[1])
        try:
            await self._load()
        except Unavailable as error:
            self._failure = asyncio.get_running_loop().time(), error.message
            raise

    async def _load(self) -> None:
        file, context = self._options.kubeconfig, self._options.context
        in_cluster = file is None and context is None and os.environ.get(_IN_CLUSTER)
        file = file or _USUAL
        if not in_cluster and not _is_there(file):
            raise Unavailable("There is no kubeconfig: neither where KUBECONFIG or `engines` say, nor ~/.kube/config.")
        try:
            if in_cluster:
                load_incluster_config(self._configuration)
            else:
                async with asyncio.timeout(self._options.request_timeout):
                    await Kubeconfig(file, context).load_and_set(self._configuration)
        except ProvisionerError:
            raise
        except ConfigException as error:
            said = shortened(without_paths(str(error)), _LONGEST_SAID)
            raise Unavailable(f"The kubeconfig cannot be used: {said}") from error
        except TimeoutError as error:
            raise Unavailable("The program that the kubeconfig names for its login gives none in time.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, yaml.YAMLError) as error:
            raise Unavailable("The kubeconfig cannot be read.") from error
        except Exception as error:
            # Whoever else is asked for a login (OIDC) fails as it likes.
            raise Unavailable("The login that the kubeconfig names cannot be had.") from error


def _is_there(files: str) -> bool:
    """Whether any of the kubeconfigs exists; kubectl does not mind either if others do not."""
    return any(Path(file).expanduser().is_file() for file in files.split(os.pathsep))
