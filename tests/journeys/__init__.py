"""A new user's tasks, each a program written against the documentation, and a test that runs it."""
