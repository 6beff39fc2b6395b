"""Reuse keys of earlier tests for the pools of later ones: creating a key takes 45 ms of CPU time.

A key is reused when nothing refers to it any more and its test has ended. No two pools have the same key at
the same time, and no pool gets a key that it had before.
"""

from __future__ import annotations

import secrets
import weakref
from base64 import b64encode
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from flask_m2m_cognito.testing import _keys, _tokens

generate_signing_key = _keys.generate_signing_key


class UsedKeys:
    """A pytest plugin that replaces the function with which pools create keys."""

    def __init__(self) -> None:
        self._free: list[RSAPrivateKey] = []
        self._dropped: list[RSAPrivateKey] = []

    def pytest_sessionstart(self) -> None:
        _tokens.generate_signing_key = self._signing_key

    def pytest_sessionfinish(self) -> None:
        _tokens.generate_signing_key = generate_signing_key

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Make the keys that the previous test dropped available."""
        self._free += self._dropped
        self._dropped.clear()

    def _signing_key(self) -> _keys.SigningKey:
        key = None
        with suppress(IndexError):
            key = _keys.SigningKey(b64encode(secrets.token_bytes(32)).decode(), self._free.pop())
        key = key or generate_signing_key()
        weakref.finalize(key, self._dropped.append, key.private_key).atexit = False
        return key
