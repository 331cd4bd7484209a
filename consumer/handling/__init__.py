"""One record from bytes to outcome. Declares the ports it calls; imports no runtime and no Kafka."""
