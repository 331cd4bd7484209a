"""Environments as containers of a Docker Engine. Only here is aiodocker imported."""

from consumer.provisioners.docker.options import DockerOptions
from consumer.provisioners.docker.provisioner import DockerProvisioner

__all__ = ["DockerOptions", "DockerProvisioner"]
