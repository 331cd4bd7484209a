"""Key-ordered concurrency: lanes, scheduler, watermark. Knows asyncio, not Kafka and not our events."""
