"""The user pool of the journeys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    clients = {"orders": "stock/read stock/write", "shop": None, "reports": "stock/read"}
    with LocalUserPool(clients=clients) as pool:
        yield pool
