"""Define every check of an access token, in order: its reason, its message and its requirement.

The validator runs these checks in the order of :data:`CHECKS`, and ``flask m2m explain`` prints them. Only
:meth:`CognitoAccessTokenValidator.recall` repeats the order, for speed. A test checks that both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ..exceptions import ConfigurationError, Reason, TokenValidationError
from ..formats.scopes import ScopeMatch, check_match, check_scope, has_scopes, insufficient_scope
from ..remote.refreshable import Refreshable
from .own_checks import OwnChecks
from .revocation_list import RevocationList
from .validated_access_token import ValidatedAccessToken

AllowedClients = Collection[str] | Callable[[str], bool] | None

_LATEST = 2**53
"""Larger numbers are not valid times, and an int that large cannot be added to a float."""


class ClaimsPolicy:
    """The requirements of a service for the claims of each token.

    The arguments are those of :class:`CognitoAccessTokenValidator`, which adds the keys to this policy.
    """

    def __init__(
        self,
        *,
        allowed_client_ids: AllowedClients,
        required_scopes: Collection[str],
        scope_match: ScopeMatch,
        audience: str | Collection[str] | None,
        leeway: float,
        machine_tokens_only: bool,
        token_check: Callable[[ValidatedAccessToken], object] | None,
        own_checks: OwnChecks,
        revocations: Refreshable[RevocationList] | None = None,
    ) -> None:
        check_match(scope_match, "scope_match")
        self.allowed_client_ids: AllowedClients = (
            allowed_client_ids
            if allowed_client_ids is None or callable(allowed_client_ids)
            else frozenset(_check_texts("allowed_client_ids", allowed_client_ids))
        )
        self.required_scopes: frozenset[str] = frozenset(_check_texts("required_scopes", required_scopes))
        for scope in self.required_scopes:
            check_scope(scope)
        self.scope_match: ScopeMatch = scope_match
        self.audience = audience
        self.leeway = leeway
        self.machine_tokens_only = machine_tokens_only
        self.token_check = token_check
        self.revocations = revocations
        self._own_checks = own_checks

    def run_own_check(
        self, setting: str, check: Callable[[Any], object], subject: object, failed: Check
    ) -> TokenValidationError | None:
        """Return the rejection if the application's own check does not accept ``subject``, else ``None``."""
        objection = self._own_checks.find_objection(setting, check, subject)
        if objection is None:
            return None
        rejection = failed.build_rejection(text=objection.text)
        rejection.__cause__ = objection.cause
        return rejection


def _check_texts(name: str, given: Collection[str]) -> Collection[str]:
    # A string is a collection too: of its characters.
    if isinstance(given, (str, bytes)):
        raise ConfigurationError(
            f"{name} must be a list of strings, got the string {given!r}. Use [{given!r}]."
        )
    if not all(isinstance(each, str) for each in given):
        raise ConfigurationError(f"{name} must be a list of strings, got {given!r}.")
    return given


@dataclass(frozen=True, eq=False)
class Step:
    """The requirement of one check, or of several: a row of ``flask m2m explain``.

    Attributes:
        name: the name of the row.
        requires: the requirement in words. ``{}`` stands for the value of ``setting``.
        setting: the attribute of the validator that the requirement depends on.
        unset: the requirement in words while that attribute is ``None`` or ``False``.
    """

    name: str
    requires: str
    setting: str = ""
    unset: str = ""


@dataclass(frozen=True, eq=False)
class Check:
    """One check of a token, with the reason and the message of its rejection."""

    step: Step
    reason: Reason
    text: str

    def build_rejection(
        self, kid: str | None = None, pool: str | None = None, text: str = ""
    ) -> TokenValidationError:
        """Return the error that rejects a token.

        Args:
            kid, pool: the key id and the pool id of the token, for logs.
            text: a message to use instead of the check's own.
        """
        return TokenValidationError(text or self.text, reason=self.reason, kid=kid, pool=pool)


@dataclass(frozen=True, eq=False)
class ClaimCheck(Check):
    """A check whose result never changes: it depends on claims and ``machine_tokens_only`` alone."""

    is_passed: Callable[[dict[str, Any], bool], bool]


@dataclass(frozen=True, eq=False)
class ServiceCheck(Check):
    """A check of this service's own requirements. It returns the rejection, or ``None``."""

    find_rejection: Callable[[ValidatedAccessToken, ClaimsPolicy], TokenValidationError | None]


def has_times(claims: dict[str, Any], machines_only: bool = False) -> bool:
    """Return whether exp and iat are valid times, and nbf too if it is present."""
    for seconds in (claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)):
        # isinstance would accept a bool as an int. The parser rejects NaN and infinity.
        if (type(seconds) is not int and type(seconds) is not float) or not -_LATEST < seconds < _LATEST:
            return False
    return True


def _revocation_rejection(token: ValidatedAccessToken, policy: ClaimsPolicy) -> TokenValidationError | None:
    source = policy.revocations
    current = None if source is None else source.state.value
    return REVOKED.build_rejection() if current is not None and current.revokes(token) else None


def _client_rejection(token: ValidatedAccessToken, policy: ClaimsPolicy) -> TokenValidationError | None:
    allowed = policy.allowed_client_ids
    if callable(allowed):
        return policy.run_own_check("ALLOWED_CLIENT_IDS", allowed, token.client_id, CLIENT_NOT_ALLOWED)
    return None if allowed is None or token.client_id in allowed else CLIENT_NOT_ALLOWED.build_rejection()


def _audience_rejection(token: ValidatedAccessToken, policy: ClaimsPolicy) -> TokenValidationError | None:
    if policy.audience is None:
        return None
    accepted = (policy.audience,) if isinstance(policy.audience, str) else policy.audience
    aud: object = token.claims.get("aud")
    for each in aud if isinstance(aud, list) else [aud]:
        if isinstance(each, str) and each in accepted:
            return None
    return WRONG_AUDIENCE.build_rejection()


def _scope_rejection(token: ValidatedAccessToken, policy: ClaimsPolicy) -> TokenValidationError | None:
    if not policy.required_scopes or has_scopes(token.scopes, policy.required_scopes, policy.scope_match):
        return None
    return insufficient_scope(token.scopes, policy.required_scopes, policy.scope_match)


def _own_rejection(token: ValidatedAccessToken, policy: ClaimsPolicy) -> TokenValidationError | None:
    if policy.token_check is None:
        return None
    return policy.run_own_check("TOKEN_CHECK", policy.token_check, token, REJECTED_BY_CHECK)


_FORM = Step("form", "a JSON Web Token (three base64url parts separated by dots)")
_ALGORITHM = Step("algorithm", '"RS256"')
_KEY_ID = Step("key id", "a key id (kid), and no critical extensions (crit)")
_ISSUER = Step("issuer", "{}", "issuers")
_KEY = Step("key", "a key of a trusted issuer")
_SIGNATURE = Step("signature", "a valid signature by this key")
_TOKEN_USE = Step("token use", '"access" (ID tokens are not accepted)')
_TIMES = Step("times", "not expired and already valid, with a leeway of {} (COGNITO_M2M_LEEWAY)", "leeway")
_CLIENT_ID = Step("client id", "the id of an app client (client_id)")
_MACHINE = Step(
    "machine",
    "machine token, without username and with sub equal to client_id (COGNITO_M2M_MACHINE_TOKENS_ONLY)",
    "machine_tokens_only",
    "any token; sub, if present, must be a string",
)
_SCOPE = Step("scope", "a string, or absent")
_REVOCATION = Step(
    "revocation",
    "not revoked with `flask m2m revoke`",
    "revocations",
    "any token (COGNITO_M2M_REVOCATIONS is off)",
)
_CLIENT = Step(
    "client", "{} (COGNITO_M2M_ALLOWED_CLIENT_IDS)", "allowed_client_ids", "any client of the pool"
)
_AUDIENCE = Step(
    "audience", "{} (COGNITO_M2M_AUDIENCE)", "audience", "any audience (COGNITO_M2M_AUDIENCE is unset)"
)
_REQUIRED_SCOPES = Step("required scopes", "{} (COGNITO_M2M_REQUIRED_SCOPES)", "required_scopes")
_OWN_CHECK = Step(
    "own check",
    "a true answer from COGNITO_M2M_TOKEN_CHECK",
    "token_check",
    "nothing (COGNITO_M2M_TOKEN_CHECK is unset)",
)

NOT_A_JWT = Check(_FORM, "malformed", "The access token is malformed: it is not a JSON Web Token.")
WRONG_ALGORITHM = Check(_ALGORITHM, "wrong_algorithm", "The access token is not signed with RS256.")
CRITICAL_EXTENSION = Check(
    _KEY_ID, "malformed", "The access token has critical header extensions (crit), which are not supported."
)
PLAIN_PAYLOAD = Check(
    _KEY_ID, "malformed", "The access token has an unencoded payload (b64), which is not supported."
)
NO_KID = Check(_KEY_ID, "malformed", "The access token has no valid key id (kid).")
NO_ISSUER = Check(_ISSUER, "malformed", "The access token has no valid issuer (iss).")
WRONG_ISSUER = Check(_ISSUER, "wrong_issuer", "The access token's issuer is not trusted.")
UNKNOWN_KEY = Check(_KEY, "unknown_key", "The access token is signed with an unknown key.")
BAD_SIGNATURE = Check(_SIGNATURE, "bad_signature", "The access token's signature is invalid.")
WRONG_TOKEN_USE = ClaimCheck(
    _TOKEN_USE,
    "wrong_token_use",
    "The token is not an access token.",
    lambda claims, machines_only: claims.get("token_use") == "access",
)
BAD_TIMES = ClaimCheck(
    _TIMES,
    "malformed",
    "The access token's exp, iat or nbf is missing or invalid.",
    has_times,
)
EXPIRED = Check(_TIMES, "expired", "The access token has expired.")
NOT_YET_VALID = Check(_TIMES, "not_yet_valid", "The access token is not yet valid.")
NO_CLIENT_ID = ClaimCheck(
    _CLIENT_ID,
    "missing_client_id",
    "The access token has no valid client_id.",
    lambda claims, machines_only: isinstance(claims.get("client_id") or None, str),
)
BAD_SUB = ClaimCheck(
    _MACHINE,
    "malformed",
    "The access token's sub must be a string.",
    lambda claims, machines_only: isinstance(claims.get("sub", ""), str),
)
USER_TOKEN = ClaimCheck(
    _MACHINE,
    "user_token",
    "User access tokens are not accepted; use a client-credentials token.",
    lambda claims, machines_only: (
        not machines_only or ("username" not in claims and claims.get("sub") == claims["client_id"])
    ),
)
BAD_SCOPE = ClaimCheck(
    _SCOPE,
    "malformed",
    "The access token's scope must be a string.",
    lambda claims, machines_only: isinstance(claims.get("scope") or "", str),
)
REVOKED = ServiceCheck(_REVOCATION, "revoked", "The access token has been revoked.", _revocation_rejection)
CLIENT_NOT_ALLOWED = ServiceCheck(
    _CLIENT, "client_not_allowed", "The client is not allowed to call this service.", _client_rejection
)
WRONG_AUDIENCE = ServiceCheck(
    _AUDIENCE, "wrong_audience", "The access token is for a different audience.", _audience_rejection
)
# The message depends on scope_match. A view's scopes have the same messages: see insufficient_scope.
INSUFFICIENT_SCOPE = ServiceCheck(_REQUIRED_SCOPES, "insufficient_scope", "", _scope_rejection)
REJECTED_BY_CHECK = ServiceCheck(
    _OWN_CHECK,
    "rejected_by_check",
    "The access token was rejected by an additional check of this service.",
    _own_rejection,
)

CHECKS: tuple[Check, ...] = (
    NOT_A_JWT, WRONG_ALGORITHM, CRITICAL_EXTENSION, PLAIN_PAYLOAD, NO_KID, NO_ISSUER, WRONG_ISSUER,
    UNKNOWN_KEY, BAD_SIGNATURE, WRONG_TOKEN_USE, BAD_TIMES, EXPIRED, NOT_YET_VALID, NO_CLIENT_ID, BAD_SUB,
    USER_TOKEN, BAD_SCOPE, REVOKED, CLIENT_NOT_ALLOWED, WRONG_AUDIENCE, INSUFFICIENT_SCOPE, REJECTED_BY_CHECK,
)  # fmt: skip
"""The order of the checks. The first check that fails rejects the token."""

_CLAIM_CHECKS = tuple((check.is_passed, check) for check in CHECKS if isinstance(check, ClaimCheck))
SERVICE_CHECKS = tuple(check for check in CHECKS if isinstance(check, ServiceCheck))


def first_defect(claims: dict[str, Any], machines_only: bool) -> ClaimCheck | None:
    """Return the first check that these claims fail at any time in any service, or ``None``."""
    for is_passed, check in _CLAIM_CHECKS:
        if not is_passed(claims, machines_only):
            return check
    return None


def failed_check(rejection: TokenValidationError) -> Check:
    """Return the check that raised ``rejection``. If its message varies, only one check has its reason."""
    same_reason = [check for check in CHECKS if check.reason == rejection.reason]
    return next((check for check in same_reason if check.text == str(rejection)), same_reason[0])
