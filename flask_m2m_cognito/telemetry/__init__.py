"""Log records, signals, health and counts."""
