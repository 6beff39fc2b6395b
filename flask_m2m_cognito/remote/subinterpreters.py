"""Imports that fail in a sub-interpreter, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_REMEDY = (
    "cryptography works in one interpreter of a process only. Under mod_wsgi, set "
    "WSGIApplicationGroup %{GLOBAL}, and give each application a process group of its own."
)


@contextmanager
def explain_subinterpreters() -> Iterator[None]:
    """Add the remedy to the error of an import of cryptography in a sub-interpreter.

    Without it, the log of the 500 has PyO3's words alone, which name no server and no setting.

    Raises:
        ImportError: as raised within; if it is PyO3's, with the remedy.
    """
    try:
        yield
    except ImportError as error:
        if "PyO3" not in str(error):
            raise
        raise ImportError(f"{error}. {_REMEDY}") from error
