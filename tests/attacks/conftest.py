"""One scene for all attacks: its pools start once, and no attack may cause a request to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.attacks.shared_cache import Attacker
from tests.attacks.stage import Scene, Service, cold_service, warm_service
from tests.support.services import Service as RedisServer


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.stop()


@pytest.fixture(scope="session")
def warm(scene: Scene) -> Service:
    """A service that has its keys and remembers a valid token."""
    return warm_service(scene)


@pytest.fixture(scope="session")
def cold(scene: Scene) -> Service:
    """A service without keys, which cannot download any."""
    return cold_service(scene)


@pytest.fixture
def attacker(redis_server: RedisServer, pool: LocalUserPool) -> Iterator[Attacker]:
    attacker = Attacker(redis_server, pool)
    yield attacker
    attacker.redis.close()
