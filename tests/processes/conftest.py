"""A pool for fleets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool() as pool:
        yield pool
