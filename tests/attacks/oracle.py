"""What must hold of every answer to every header, and a second opinion of which tokens are good."""

from __future__ import annotations

from typing import Any

import jwt

from tests.attacks.stage import OUR_KID, SCOPE, Reply, Scene

STATUSES = (400, 401, 403)

# Claims of which we say nothing, and iat, which we compare with nothing.
_NOT_LOOKED_AT: Any = {f"verify_{claim}": False for claim in ("aud", "iat", "jti", "sub")}


def assert_held(reply: Reply, header: str, scene: Scene) -> None:
    """No error, no network, and no view, unless PyJWT and the claims say as well that the token is good."""
    assert reply.requests == 0
    if reply.ran or reply.status == 200:
        assert is_good(header, scene), header
        return
    assert reply.status in STATUSES, (reply.status, header)
    assert reply.reason is not None


def is_good(header: str, scene: Scene) -> bool:
    """By PyJWT, which knows nothing of ours. It looks less strictly: what it takes for bad is bad."""
    scheme, _, token = header.strip(" \t").partition(" ")
    try:
        said: dict[str, Any] = jwt.decode(
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
        and said.get("token_use") == "access"
        and said.get("client_id") == said.get("sub") == "shop"
        and "username" not in said
        and SCOPE in said.get("scope", "").split(" ")
    )
