"""Other libraries that do the same work, each through one small adapter."""
