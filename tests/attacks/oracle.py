"""What must hold for every answer, and a second opinion on which tokens are valid."""

from __future__ import annotations

from typing import Any

import jwt

from tests.attacks.stage import OUR_KID, SCOPE, Reply, Scene

STATUSES = (400, 401, 403)

# Claims that the library does not require, and iat, which it compares with nothing.
_NOT_LOOKED_AT: Any = {f"verify_{claim}": False for claim in ("aud", "iat", "jti", "sub")}


def assert_rejected_or_valid(reply: Reply, header: str, scene: Scene) -> None:
    """Assert that nothing failed and no request was sent. Only a token that PyJWT accepts may be accepted."""
    assert reply.requests == 0
    if reply.ran or reply.status == 200:
        assert is_valid(header, scene), header
        return
    assert reply.status in STATUSES, (reply.status, header)
    assert reply.reason is not None


def is_valid(header: str, scene: Scene) -> bool:
    """Validate a header with PyJWT, independently of the library. PyJWT is less strict than the library."""
    scheme, _, token = header.strip(" \t").partition(" ")
    try:
        claims: dict[str, Any] = jwt.decode(
            token.strip(" "),
            scene.mine.public_key(),
            algorithms=["RS256"],
            issuer=scene.pool.issuer,
            leeway=10,
            options={"require": ["exp", "iat", "iss"], **_NOT_LOOKED_AT},
        )
        kid = jwt.get_unverified_header(token.strip(" ")).get("kid")
    except jwt.PyJWTError:
        return False
    return (
        scheme.lower() == "bearer"
        and kid == OUR_KID
        and claims.get("token_use") == "access"
        and claims.get("client_id") == claims.get("sub") == "shop"
        and "username" not in claims
        and SCOPE in claims.get("scope", "").split(" ")
    )
