"""Reads ``app.config`` into frozen records of settings: the table of all keys, and the readers of values."""
