"""The contract with the outside: what comes in, what goes out, and nothing of ours imported."""
