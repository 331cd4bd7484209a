"""The programs that are compared. Each is a process of its own and may run under another Python than the runner's.

Nothing here imports from the rest of `benchmarks`, and `harness` needs only the standard library.
"""
