"""What each kind of work costs here, at its limit, and with peers: ``python -m tests.benchmarks``."""
