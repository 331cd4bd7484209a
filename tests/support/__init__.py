"""What end-to-end tests stand on: payloads as the platform sends them, Moorage as a process, and eyes of our own.

Nothing here that looks at the outcome uses Moorage's clients: topics are read with librdkafka, containers with
Docker's own SDK, and messages are taken apart as JSON.
"""
