"""An error of code around ours, such as a tracer that patches ``requests``: no failure of what was asked."""

from __future__ import annotations


class ForeignError(Exception):
    """Code around ``requests`` raised. The text is that of its error."""


def is_foreign(error: Exception) -> bool:
    """Return whether a fetch failed because of a :class:`ForeignError`."""
    return isinstance(getattr(error, "cause", None) or error.__cause__, ForeignError)
