"""The rows of ``flask m2m explain``: what each check found in a token, and what it requires."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..formats.strict_json import decode_base64url, parse_object
from ..inbound.claims_policy import CHECKS, NOT_A_JWT, has_times
from ..inbound.claims_policy import Step as Requirement
from ..inbound.validator import CognitoAccessTokenValidator
from .words import clock_words, duration, listed, quoted


@dataclass(frozen=True)
class Step:
    """The row of one check. The attributes are the names in ``--json``.

    Attributes:
        check: the name of the check.
        saw: what it found in the token.
        wanted: what it requires.
        status: ``"ok"``, ``"failed"`` or ``"not reached"``.
    """

    check: str
    saw: str
    wanted: str
    status: str = "not reached"

    def as_dict(self) -> dict[str, str]:
        return {"check": self.check, "status": self.status, "saw": self.saw, "wanted": self.wanted}


@dataclass(frozen=True)
class DecodedToken:
    """The unverified header and claims of a token. The signature is not included."""

    header: dict[str, Any] = field(repr=False)
    claims: dict[str, Any] = field(repr=False)


def decode_token(jwt: str) -> DecodedToken | None:
    """Decode a token without verifying it, by the validator's rules. Return ``None`` if it is malformed."""
    try:
        header, claims, _ = (decode_base64url(part) for part in jwt.encode("ascii").split(b"."))
        return DecodedToken(parse_object(header), parse_object(claims, most_values=None))
    except ValueError:
        return None


def list_steps(
    decoded: DecodedToken | None, validator: CognitoAccessTokenValidator, now: float, offset: float | None
) -> list[Step]:
    """Return a row for each check, in the validator's order."""
    if decoded is None:
        return [Step("form", "another text (not shown)", NOT_A_JWT.step.requires)]
    saw = _describe_token(decoded, now, offset)
    if validator.revocations is not None and (failure := validator.revocations.state.failure) is not None:
        saw["revocation"] += f"; the list of revocations could not be read: {failure.error}"
    steps = dict.fromkeys(check.step for check in CHECKS)
    return [
        Step(step.name, saw[step.name], _describe_requirement(step, validator, decoded)) for step in steps
    ]


def _describe_token(decoded: DecodedToken, now: float, offset: float | None) -> dict[str, str]:
    header, claims = decoded.header, decoded.claims
    kid = quoted(header.get("kid"))
    return {
        "form": "a JSON Web Token",
        "algorithm": quoted(header.get("alg")),
        "key id": f"{kid}, and critical extensions {quoted(header['crit'])}" if "crit" in header else kid,
        "issuer": quoted(claims.get("iss")),
        "key": kid,
        "signature": "a signature (not shown)",
        "token use": quoted(claims.get("token_use")),
        "times": _describe_times(claims, now, offset),
        "client id": quoted(claims.get("client_id")),
        "machine": _describe_owner(claims),
        "scope": quoted(claims.get("scope")),
        "revocation": f"iat {quoted(claims.get('iat'))}, jti {quoted(claims.get('jti'))}",
        "client": quoted(claims.get("client_id")),
        "audience": quoted(claims.get("aud")),
        "required scopes": quoted(claims.get("scope")),
        "own check": "the whole token",
    }


def _describe_requirement(
    step: Requirement, validator: CognitoAccessTokenValidator, decoded: DecodedToken
) -> str:
    value: Any = getattr(validator, step.setting, "")
    if value is None or value is False:
        return step.unset
    if step.name == "key":
        return _list_kids(validator, decoded.claims.get("iss")) or step.requires
    if step.name == "client" and callable(value):
        return "a true answer from your callable COGNITO_M2M_ALLOWED_CLIENT_IDS"
    if step.name == "times":
        value = duration(value)
    elif step.name == "required scopes":
        value = listed(value, "and" if validator.scope_match == "all" else "or")
    elif "{}" in step.requires:
        value = listed(map(quoted, [value] if isinstance(value, str) else value), "or")
    return step.requires.format(value)


def _list_kids(validator: CognitoAccessTokenValidator, issuer: object) -> str | None:
    for trusted in validator.pools:
        if issuer in trusted.pool.issuers:
            keys = trusted.key_source.state.value
            return (
                "a key of the pool, but the keys are unavailable"
                if keys is None
                else listed(map(quoted, keys.kids), "or")
            )
    return None


def _describe_times(claims: dict[str, Any], now: float, offset: float | None) -> str:
    if not has_times(claims):
        return ", ".join(f"{name} {quoted(claims.get(name))}" for name in ("exp", "iat", "nbf"))
    left = claims["exp"] - now
    parts = [f"expired {duration(left)} ago" if left <= 0 else f"{duration(left)} left"]
    begins_in = claims.get("nbf", now) - now
    if begins_in > 0:
        parts.append(f"not valid for another {duration(begins_in)}")
    return ", ".join([*parts, clock_words(offset)])


def _describe_owner(claims: dict[str, Any]) -> str:
    if "username" in claims:
        return f"user access token of {quoted(claims['username'])}"
    is_machine = claims.get("sub") == claims.get("client_id")
    return "machine token" if is_machine else f"sub {quoted(claims.get('sub'))}"
