"""The checks of an access token as rows: what each saw in this token, and what it wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..formats.strict_json import decode_base64url, parse_object
from ..inbound.validator import CognitoAccessTokenValidator
from ..inbound.verified_token import has_times
from .words import clock_words, duration, listed, quoted


@dataclass(frozen=True)
class Step:
    """One check."""

    check: str
    saw: str
    wanted: str
    status: str = "not reached"

    def as_dict(self) -> dict[str, str]:
        return {"check": self.check, "status": self.status, "saw": self.saw, "wanted": self.wanted}


@dataclass(frozen=True)
class Seen:
    """Header and claims of a token, unverified. Its signature is not in here."""

    header: dict[str, Any] = field(repr=False)
    claims: dict[str, Any] = field(repr=False)

    @property
    def names_key(self) -> bool:
        """Whether the header names a key, and wants nothing that must be understood."""
        kid = self.header.get("kid")
        return isinstance(kid, str) and 0 < len(kid) <= 256 and "crit" not in self.header


def seen_in(jwt: str) -> Seen | None:
    """What can be read of a token, by the validator's own rules; ``None`` if it has not even the form."""
    try:
        header, claims, _ = (decode_base64url(part) for part in jwt.encode("ascii").split(b"."))
        return Seen(parse_object(header), parse_object(claims, most_values=None))
    except ValueError:
        return None


def steps_of(
    seen: Seen | None, validator: CognitoAccessTokenValidator, now: float, offset: float | None
) -> list[Step]:
    """Every check, in the order in which they are made."""
    wanted = "three parts with dots between, a JSON Web Token"
    if seen is None:
        return [Step("form", "something else (not shown)", wanted)]
    return [
        Step("form", "a JSON Web Token", wanted),
        *_signature_steps(seen, validator),
        *_claim_steps(seen, validator, now, offset),
        *_policy_steps(seen, validator),
    ]


def _signature_steps(seen: Seen, validator: CognitoAccessTokenValidator) -> list[Step]:
    kid = quoted(seen.header.get("kid"))
    extensions = f", and extensions {quoted(seen.header['crit'])}" if "crit" in seen.header else ""
    issuer = seen.claims.get("iss")
    return [
        Step("algorithm", quoted(seen.header.get("alg")), '"RS256"'),
        Step(
            "key id", kid + extensions, "the name of a key, and no extension that must be understood (crit)"
        ),
        Step("issuer", quoted(issuer), listed(map(quoted, validator.issuers), "or")),
        Step("key", kid, _keys_wanted(validator, issuer)),
        Step("signature", "a signature (not shown)", "the signature that this key makes for these contents"),
    ]


def _claim_steps(
    seen: Seen, validator: CognitoAccessTokenValidator, now: float, offset: float | None
) -> list[Step]:
    claims = seen.claims
    machine = "any token; sub, if present, is text"
    if validator.machine_tokens_only:
        machine = "a machine's: without username, and sub is the client id (COGNITO_M2M_MACHINE_TOKENS_ONLY)"
    return [
        Step("token use", quoted(claims.get("token_use")), '"access": an ID token says who somebody is'),
        Step("times", _times_seen(seen, now, offset), _times_wanted(validator)),
        Step("client id", quoted(claims.get("client_id")), "the app client that it was issued to"),
        Step("machine", _owner_seen(claims), machine),
        Step("scope", quoted(claims.get("scope")), "text, or nothing"),
    ]


def _policy_steps(seen: Seen, validator: CognitoAccessTokenValidator) -> list[Step]:
    claims = seen.claims
    required = listed(validator.required_scopes, "and" if validator.scope_match == "all" else "or")
    own_check = "none" if validator.token_check is None else "that COGNITO_M2M_TOKEN_CHECK does not refuse it"
    return [
        Step("client", quoted(claims.get("client_id")), _clients_wanted(validator)),
        Step("audience", quoted(claims.get("aud")), _audience_wanted(validator)),
        Step("required scopes", quoted(claims.get("scope")), f"{required} (COGNITO_M2M_REQUIRED_SCOPES)"),
        Step("own check", "all of it", own_check),
    ]


def _keys_wanted(validator: CognitoAccessTokenValidator, issuer: object) -> str:
    for trusted in validator.pools:
        if issuer in trusted.pool.issuers:
            keys = trusted.keys.state.value
            return "keys that can't be had now" if keys is None else listed(map(quoted, keys.kids), "or")
    return "a key of a trusted issuer"


def _times_seen(seen: Seen, now: float, offset: float | None) -> str:
    if not has_times(seen.claims):
        return ", ".join(f"{name} {quoted(seen.claims.get(name))}" for name in ("exp", "iat", "nbf"))
    left = seen.claims["exp"] - now
    parts = [f"expired {duration(left)} ago" if left <= 0 else f"{duration(left)} left"]
    begins_in = seen.claims.get("nbf", now) - now
    if begins_in > 0:
        parts.append(f"begins in {duration(begins_in)}")
    return ", ".join([*parts, clock_words(offset)])


def _times_wanted(validator: CognitoAccessTokenValidator) -> str:
    return f"not expired and already begun, give or take {duration(validator.leeway)} (COGNITO_M2M_LEEWAY)"


def _owner_seen(claims: dict[str, Any]) -> str:
    if "username" in claims:
        return f"a person's, with the username {quoted(claims['username'])}"
    is_machine = claims.get("sub") == claims.get("client_id")
    return "a machine's" if is_machine else f"sub {quoted(claims.get('sub'))}"


def _clients_wanted(validator: CognitoAccessTokenValidator) -> str:
    allowed = validator.allowed_client_ids
    if allowed is None:
        return "any client of the pool"
    if callable(allowed):
        return "that your callable COGNITO_M2M_ALLOWED_CLIENT_IDS says yes"
    return f"{listed(map(quoted, allowed), 'or')} (COGNITO_M2M_ALLOWED_CLIENT_IDS)"


def _audience_wanted(validator: CognitoAccessTokenValidator) -> str:
    if not validator.audience:
        return "anything: it is not checked"
    audience: Iterable[str] = (
        [validator.audience] if isinstance(validator.audience, str) else validator.audience
    )
    return f"{listed(map(quoted, audience), 'or')} (COGNITO_M2M_AUDIENCE)"
