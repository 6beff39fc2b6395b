"""One scene for all attacks: its pools listen once, and each attack must leave them unasked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.stage import Scene, Service, cold_service, steady_service


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.stop()


@pytest.fixture(scope="session")
def steady(scene: Scene) -> Service:
    """A service that has its keys and remembers a good token."""
    return steady_service(scene)


@pytest.fixture(scope="session")
def cold(scene: Scene) -> Service:
    """A service that has never had keys, and can't have any."""
    return cold_service(scene)
