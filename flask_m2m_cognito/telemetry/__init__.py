"""What one can observe: log records, signals, health, counts."""
