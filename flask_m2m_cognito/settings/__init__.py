"""From ``app.config`` to frozen records of the parts: the table of all keys, and the readers of values."""
