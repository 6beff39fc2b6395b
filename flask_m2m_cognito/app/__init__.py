"""Builds and holds the parts of one application."""
