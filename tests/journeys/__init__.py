"""Tasks of a new user: each is a program written by the documentation, with a test that runs it."""
