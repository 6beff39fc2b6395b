"""Scopes go out and become a token. No Flask."""
