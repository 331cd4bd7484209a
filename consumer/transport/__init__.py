"""Everything Kafka. Only here is aiokafka imported."""
