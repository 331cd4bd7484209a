"""Who we are to which API server: from the cluster that Moorage runs in, or from a kubeconfig."""

import asyncio
import os
from pathlib import Path

import yaml
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from consumer.handling.errors import Unavailable
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.text import shortened, without_paths

_CONNECTIONS = 128
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_USUAL = "~/.kube/config"
_LONGEST_SAID = 200
_NO_LOGIN = "The program that the kubeconfig names gives no login."


class Connection:
    """The client library's connection, made when it is first needed."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._api: ApiClient | None = None
        self._configuration = Configuration()
        self._configuration.connection_pool_maxsize = _CONNECTIONS
        self._making = asyncio.Lock()

    async def api(self) -> ApiClient:
        """Raises `Unavailable` when there is no login, or none that can be read."""
        async with self._making:
            if self._api is None:
                await self._load()
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
        async with self._making:
            if self.token == token:
                await self._load()
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

    async def _load(self) -> None:
        file, context = self._options.kubeconfig, self._options.context
        in_cluster = file is None and context is None and os.environ.get(_IN_CLUSTER)
        file = file or _USUAL
        if not in_cluster and not _is_there(file):
            raise Unavailable("There is no kubeconfig: neither where KUBECONFIG says, nor ~/.kube/config.")
        try:
            if in_cluster:
                load_incluster_config(self._configuration)
            else:
                async with asyncio.timeout(self._options.request_timeout):
                    await load_kube_config(file, context, self._configuration, persist_config=False)
        except ConfigException as error:
            if str(error).startswith("exec:"):  # and then whatever the program wrote, secrets perhaps
                raise Unavailable(_NO_LOGIN) from error
            said = shortened(without_paths(str(error)), _LONGEST_SAID)
            raise Unavailable(f"The kubeconfig cannot be used: {said}") from error
        except TimeoutError as error:
            raise Unavailable("The program that the kubeconfig names gives no login in time.") from error
        except (OSError, ValueError, KeyError, TypeError, AssertionError, yaml.YAMLError) as error:
            raise Unavailable("The kubeconfig cannot be read.") from error
        except Exception as error:
            # A program that gives out logins fails as it likes.
            raise Unavailable(_NO_LOGIN) from error


def _is_there(files: str) -> bool:
    """Whether any of the kubeconfigs exists; kubectl does not mind either if others do not."""
    return any(Path(file).expanduser().is_file() for file in files.split(os.pathsep))
