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


class Connection:
    """The client library's connection, made when it is first needed."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._api: ApiClient | None = None
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
                try:
                    self._api = ApiClient(self._configuration)
                except (OSError, ValueError) as error:
                    raise Unavailable("The certificates of the kubeconfig cannot be used.") from error
                self._api.user_agent = "moorage"
            return self._api

    async def log_in_again(self, token: str | None) -> bool:
        """Read the login anew, unless that was done since `token` was; True when there is another one now.

        Files that hold a token change, and what programs (`exec`) give out runs out.
        """
        asked = asyncio.get_running_loop().time()
        async with self._making:
            if self.token == token:
                await self._log_in(asked)
            return self.token != token

    @property
    def token(self) -> str | None:
        token: str | None = self._configuration.api_key.get("BearerToken")
        return token

    @property
    def server(self) -> str:
        return str(self._configuration.host)

    async def close(self) -> None:
        async with self._making:
            if self._api is not None:
                await self._api.close()
                self._api = None

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
            where = (
                "~/.kube/config" if self._options.kubeconfig is None else "where it should be (KUBECONFIG, `engines`)"
            )
            raise Unavailable(f"There is no kubeconfig {where}.")
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
