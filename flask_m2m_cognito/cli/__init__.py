"""The commands: ``flask m2m …``."""

from .group import m2m as m2m
