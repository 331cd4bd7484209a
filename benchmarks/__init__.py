"""Measurements, never assertions: how fast Moorage is, beside what else could do its work on the same machine.

`python -m benchmarks --help` lists them; docs/benchmarks.md tells how they measure and what came out.
"""
