"""joserfc: decoding a token and checking its claims."""

from __future__ import annotations

import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.benchmarks.pool_process import Address
from tests.benchmarks.subjects import Subject, Validate


def _validate(address: Address, keys_fresh_for: float) -> Validate:
    keys = KeySet.import_key_set(requests.get(address.jwks_url, timeout=5).json())
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": address.issuer},
        token_use={"essential": True, "value": "access"},
        client_id={"essential": True, "value": address.client_id},
        exp={"essential": True},
    )

    def validate(text: str) -> object:
        token = jwt.decode(text, keys, algorithms=["RS256"])
        registry.validate(token.claims)
        return token.claims

    return validate


PEER = Subject("joserfc", validate=_validate)
