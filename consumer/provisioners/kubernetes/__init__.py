"""Environments as pods of a Kubernetes cluster. Only here is kubernetes_asyncio imported."""

from consumer.provisioners.kubernetes.options import KubernetesOptions, UserNamespaces
from consumer.provisioners.kubernetes.provisioner import KubernetesProvisioner

__all__ = ["KubernetesOptions", "KubernetesProvisioner", "UserNamespaces"]
