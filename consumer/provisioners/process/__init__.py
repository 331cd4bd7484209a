"""Environments as supervised processes of this machine: for demonstrations and trusted users. Not isolated."""

from consumer.provisioners.process.options import ProcessOptions
from consumer.provisioners.process.provisioner import ProcessProvisioner

__all__ = ["ProcessOptions", "ProcessProvisioner"]
