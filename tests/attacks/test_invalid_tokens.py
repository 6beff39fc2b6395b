"""A caller without a valid token: nothing that it sends runs a view or causes a request."""

from __future__ import annotations

import pytest

from tests.attacks import forged_signatures, invalid_claims, malformed_headers, malformed_tokens
from tests.attacks.forging import by_rsa, jose_header, valid_token
from tests.attacks.invalid_claims import COGNITO_ISSUERS, COGNITO_OWN_ISSUERS, POOL_ID
from tests.attacks.stage import Attack, Scene, Service, bearer, valid_header

ATTACKS = [
    *forged_signatures.ATTACKS,
    *malformed_tokens.ATTACKS,
    *invalid_claims.ATTACKS,
    *malformed_headers.ATTACKS,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_warm_service_rejects_it_and_keeps_working(attack: Attack, scene: Scene, warm: Service) -> None:
    remembered = valid_header(scene)
    assert warm.send(remembered).ran
    header = attack.make(scene)
    requests = scene.requests

    reply = warm.send(header)

    assert (reply.status, reply.reason) == (attack.status, attack.reason)
    assert not reply.ran
    assert reply.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert warm.send(remembered).ran
    assert scene.requests == requests


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_token_invalid_under_any_key_triggers_no_download(
    attack: Attack, scene: Scene, cold: Service
) -> None:
    reply = cold.send(attack.make(scene))

    assert not reply.ran
    if attack.needs_no_key:
        assert (reply.status, reply.reason, reply.requests) == (attack.status, attack.reason, 0)
    else:
        # It could be valid: without keys, the service cannot know.
        assert (reply.status, reply.reason) == (503, "keys_unavailable")
        assert reply.headers["Retry-After"].isdigit()


@pytest.fixture(scope="module")
def of_cognito(scene: Scene) -> Service:
    """A service whose issuers are derived from its pool id. Its keys are those of our pool."""
    service = Service(scene, USER_POOL_ID=POOL_ID, ISSUER=None)
    assert service.send(_from(scene, COGNITO_OWN_ISSUERS[0])).status == 200
    return service


@pytest.mark.parametrize(("name", "issuer"), COGNITO_ISSUERS, ids=[name for name, _ in COGNITO_ISSUERS])
def test_similar_issuer_is_rejected(name: str, issuer: str, scene: Scene, of_cognito: Service) -> None:
    """RFC 8725, section 3.8; aws-jwt-verify: invalid issuer."""
    reply = of_cognito.send(_from(scene, issuer))

    assert (reply.status, reply.reason, reply.ran, reply.requests) == (401, "wrong_issuer", False, 0)


@pytest.mark.parametrize("issuer", COGNITO_OWN_ISSUERS)
def test_both_issuers_of_the_pool_are_trusted(issuer: str, scene: Scene, of_cognito: Service) -> None:
    assert of_cognito.send(_from(scene, issuer)).ran


@pytest.mark.parametrize(
    "member",
    [
        pytest.param("jku", id="jku: RFC 7515, 4.1.2"),
        pytest.param("x5u", id="x5u: RFC 7515, 4.1.5"),
    ],
)
def test_url_in_the_tokens_header_is_ignored(member: str, scene: Scene, warm: Service) -> None:
    header = jose_header(scene, **{member: scene.elsewhere.jwks_url})

    reply = warm.send(bearer(by_rsa(scene, header)))

    assert (reply.status, reply.requests) == (200, 0)


@pytest.mark.parametrize(
    "options",
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
            id="the header for a proxy: RFC 9110, 11.7",
        ),
    ],
)
def test_token_outside_the_header_is_ignored(options: object, scene: Scene, warm: Service) -> None:
    reply = warm.send(None, **options(valid_token(scene)))  # type: ignore[operator]

    assert (reply.status, reply.reason, reply.ran, reply.requests) == (401, "missing_token", False, 0)


def _from(scene: Scene, issuer: str) -> str:
    return bearer(valid_token(scene, iss=issuer))
