"""One package a runtime; each implements `consumer.handling.ports.Provisioner` and knows no other."""
