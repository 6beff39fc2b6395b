"""How ``settings.py`` reads: readers of raw values, the table of all keys, one level of keys, the clients."""
