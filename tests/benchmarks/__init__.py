"""Compare this library with its limits and with other libraries: ``python -m tests.benchmarks``."""
