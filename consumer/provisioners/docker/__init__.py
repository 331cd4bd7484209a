"""Environments as containers of a Docker Engine or of Podman. Only here is aiodocker imported."""

from consumer.provisioners.docker.dialects import DOCKER, PODMAN, Dialect
from consumer.provisioners.docker.options import DockerOptions
from consumer.provisioners.docker.provisioner import DockerProvisioner

__all__ = ["DOCKER", "PODMAN", "Dialect", "DockerOptions", "DockerProvisioner"]
