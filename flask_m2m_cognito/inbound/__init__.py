"""Validate access tokens. This package does not import Flask."""
