"""`python -m consumer` is `moorage`."""

from consumer.cli import main

main()
