"""What the commands that talk to Kafka begin with."""

import logging

from consumer.cli.console import load_settings, quiet_logging
from consumer.settings import Settings


def begin() -> Settings:
    """Logging as people want it, and the settings.

    The Kafka client's complaints go nowhere: each errand ends in an answer or in an error that has them in it.
    """
    quiet_logging()
    client = logging.getLogger("aiokafka")
    client.handlers[:] = [logging.NullHandler()]
    client.propagate = False
    client.setLevel(logging.ERROR)
    return load_settings()
