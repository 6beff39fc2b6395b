"""A caller without a good token: nothing that it sends runs a view, and none of it goes over the network."""

from __future__ import annotations

import pytest

from tests.attacks import crooked_claims, crooked_headers, crooked_texts, forged_signatures
from tests.attacks.crooked_claims import COGNITO_ISSUERS, COGNITO_OWN_ISSUERS, POOL_ID
from tests.attacks.forging import by_rsa, good_header, valid_token
from tests.attacks.stage import Attack, Scene, Service, bearer, good

ATTACKS = [
    *forged_signatures.ATTACKS,
    *crooked_texts.ATTACKS,
    *crooked_claims.ATTACKS,
    *crooked_headers.ATTACKS,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_steady_service_refuses_it_and_stays_steady(attack: Attack, scene: Scene, steady: Service) -> None:
    remembered = good(scene)
    assert steady.ask(remembered).ran
    header = attack.make(scene)
    requests = scene.requests

    reply = steady.ask(header)

    assert (reply.status, reply.reason) == (attack.status, attack.reason)
    assert not reply.ran
    assert reply.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert steady.ask(remembered).ran
    assert scene.requests == requests


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_service_without_keys_asks_for_none_if_it_can_not_become_good(
    attack: Attack, scene: Scene, cold: Service
) -> None:
    reply = cold.ask(attack.make(scene))

    assert not reply.ran
    if attack.needs_no_key:
        assert (reply.status, reply.reason, reply.requests) == (attack.status, attack.reason, 0)
    else:
        # Its key may be a good one: nothing can be said of it.
        assert (reply.status, reply.reason) == (503, "keys_unavailable")
        assert reply.headers["Retry-After"].isdigit()


@pytest.fixture(scope="module")
def of_cognito(scene: Scene) -> Service:
    """A service whose issuers are derived from its pool's id; its keys are our pool's."""
    service = Service(scene, USER_POOL_ID=POOL_ID, ISSUER=None)
    assert service.ask(_from(scene, COGNITO_OWN_ISSUERS[0])).status == 200
    return service


@pytest.mark.parametrize(("name", "issuer"), COGNITO_ISSUERS, ids=[name for name, _ in COGNITO_ISSUERS])
def test_an_issuer_that_looks_like_the_pools_is_another(
    name: str, issuer: str, scene: Scene, of_cognito: Service
) -> None:
    """RFC 8725, section 3.8; aws-jwt-verify: invalid issuer."""
    reply = of_cognito.ask(_from(scene, issuer))

    assert (reply.status, reply.reason, reply.ran, reply.requests) == (401, "wrong_issuer", False, 0)


@pytest.mark.parametrize("issuer", COGNITO_OWN_ISSUERS)
def test_the_pools_own_issuers_are_both_trusted(issuer: str, scene: Scene, of_cognito: Service) -> None:
    assert of_cognito.ask(_from(scene, issuer)).ran


@pytest.mark.parametrize(
    "member",
    [
        pytest.param("jku", id="jku: RFC 7515, 4.1.2"),
        pytest.param("x5u", id="x5u: RFC 7515, 4.1.5"),
    ],
)
def test_an_address_in_the_header_of_a_good_token_is_not_looked_at(
    member: str, scene: Scene, steady: Service
) -> None:
    header = good_header(scene, **{member: scene.elsewhere.jwks_url})

    reply = steady.ask(bearer(by_rsa(scene, header)))

    assert (reply.status, reply.requests) == (200, 0)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(lambda token: {"query_string": {"access_token": token}}, id="query: RFC 6750, 2.3"),
        pytest.param(
            lambda token: {"method": "POST", "data": {"access_token": token}}, id="form: RFC 6750, 2.2"
        ),
        pytest.param(
            lambda token: {"method": "POST", "json": {"access_token": token}}, id="JSON: RFC 6750, 2"
        ),
        pytest.param(lambda token: {"headers": {"Cookie": f"access_token={token}"}}, id="cookie: CWE-352"),
        pytest.param(lambda token: {"headers": {"X-Authorization": f"Bearer {token}"}}, id="another header"),
        pytest.param(
            lambda token: {"headers": {"Proxy-Authorization": f"Bearer {token}"}},
            id="the proxy's header: RFC 9110, 11.7",
        ),
    ],
)
def test_a_token_anywhere_else_is_no_token(sent: object, scene: Scene, steady: Service) -> None:
    reply = steady.ask(None, **sent(valid_token(scene)))  # type: ignore[operator]

    assert (reply.status, reply.reason, reply.ran, reply.requests) == (401, "missing_token", False, 0)


def _from(scene: Scene, issuer: str) -> str:
    return bearer(valid_token(scene, iss=issuer))
