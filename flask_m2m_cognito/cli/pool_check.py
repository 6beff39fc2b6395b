"""Check that a user pool's keys are available, and that its issuer is trusted."""

from __future__ import annotations

from dataclasses import replace

from ..formats.strict_json import parse_object
from ..inbound.key_set import NoUsableKeys, parse_key_set
from ..inbound.key_source import TrustedPool
from ..inbound.user_pool import UserPool
from ..remote.transport import Answer
from .finding import Finding, demote, failed, has_failed, ok, warning
from .network import Network, try_get
from .words import listed, quoted

_KEYS = "/.well-known/jwks.json"
_CONFIGURATION = "/.well-known/openid-configuration"

_COPY_POOL_ID = (
    "Copy the user pool id from the Cognito console (User pools, your pool, Overview) into "
    "COGNITO_M2M_USER_POOL_ID. It looks like us-west-2_AbCdEfGhI; the part before the _ is its Region."
)
_TROUBLE = "The problem is at Cognito. Try again later, and look at https://health.aws.amazon.com."
_NO_ANSWER = (
    "Try again. If the error persists, Cognito is unavailable (look at https://health.aws.amazon.com), or a "
    "proxy or firewall in this machine's network blocks the answer."
)
_NOT_COGNITO = (
    "Another server answers instead of Cognito: a proxy, or the host of a wrong COGNITO_M2M_JWKS_URL or "
    "COGNITO_M2M_ISSUER. Open the URL in a browser on this machine."
)
_SET_ADDRESS = {
    "COGNITO_M2M_ISSUER": "Set COGNITO_M2M_ISSUER to the `iss` of the pool's tokens (for an emulator)",
    "COGNITO_M2M_JWKS_URL": "Set COGNITO_M2M_JWKS_URL to the URL of the pool's keys (for an emulator)",
}
_OR_DERIVE_IT = ", or unset it for a pool in Cognito: the URL is then derived from COGNITO_M2M_USER_POOL_ID."


def pool_findings(
    trusted: TrustedPool, network: Network, is_pinned: bool = False, address_setting: str | None = None
) -> list[Finding]:
    """Check one pool at the first of its URLs that works, or at the first one if none does.

    Args:
        is_pinned: whether its keys are in the settings, so the service needs no access to the pool.
        address_setting: the setting that overrides the URL of its keys, if one does:
            ``"COGNITO_M2M_ISSUER"`` or ``"COGNITO_M2M_JWKS_URL"``.
    """
    tried: list[list[Finding]] = []
    for url in trusted.pool.jwks_urls:
        findings = _at(url, trusted.pool, network, address_setting)
        if not has_failed(findings):
            return [*(line for each in tried for line in demote(each)), *findings]
        tried.append(findings)
    return demote(tried[0]) if is_pinned else tried[0]


def _at(url: str, pool: UserPool, network: Network, address_setting: str | None) -> list[Finding]:
    findings = network.look_at(url)
    if network.reached(url):
        findings = [*findings, _keys_finding(url, pool, network, address_setting)]
    elif not findings:
        findings = [failed("keys", f"The host of the keys of {pool.pool_id} cannot be reached.", "")]
    if has_failed(findings):
        return [_with_setting(each, address_setting) for each in findings]
    return [*findings, _issuer_finding(url, pool, network)]


def _with_setting(finding: Finding, address_setting: str | None) -> Finding:
    """Add the setting that the URL comes from to a failure, unless its advice names it already."""
    if finding.status != "failed" or address_setting is None or address_setting in finding.advice:
        return finding
    return replace(finding, advice=f"Check {address_setting}, which sets this URL. {finding.advice}")


def _keys_finding(url: str, pool: UserPool, network: Network, address_setting: str | None) -> Finding:
    answer = try_get(network, url)
    if isinstance(answer, str):
        return failed("keys", f"Could not download the keys of {pool.pool_id}: {answer}.", _NO_ANSWER)
    status = answer.status
    if status in (400, 404) and address_setting is not None:
        text = f"There are no keys of {pool.pool_id} at {url} ({status}), the URL from {address_setting}."
        return failed("keys", text, _SET_ADDRESS[address_setting] + _OR_DERIVE_IT)
    if status in (400, 404):
        where = f"in the Region {pool.region}" if pool.region else "there"
        text = f"There is no user pool {pool.pool_id} {where} ({url} answers {status})."
        return failed("keys", text, _COPY_POOL_ID)
    if status == 429 or status >= 500:
        return failed(
            "keys", f"Could not download the keys of {pool.pool_id}: {url} answers {status}.", _TROUBLE
        )
    try:
        keys = parse_key_set(answer.body) if status == 200 else None
    except (ValueError, NoUsableKeys):
        keys = None
    if keys is None:
        return failed("keys", f"{url} answers {status}, but not with a valid key set.", _NOT_COGNITO)
    return ok("keys", f"Signing keys of {pool.pool_id}: {listed(map(quoted, keys.kids))}.")


def _issuer_finding(keys_url: str, pool: UserPool, network: Network) -> Finding:
    base = keys_url.removesuffix(_KEYS) if keys_url.endswith(_KEYS) else pool.issuers[0].rstrip("/")
    answer = try_get(network, base + _CONFIGURATION)
    issuer = _issuer_in(answer) if isinstance(answer, Answer) else None
    if issuer is None:
        return warning(
            "issuer",
            f"{base}{_CONFIGURATION} does not name the issuer of {pool.pool_id}.",
            "Cognito serves this document; an emulator may not. Check that the `iss` of a token is "
            f"{listed(pool.issuers, 'or')}: `flask m2m explain` shows it.",
        )
    if issuer in pool.issuers:
        return ok("issuer", f"The issuer of {pool.pool_id} is {issuer}, which is trusted.")
    return failed(
        "issuer",
        f"The issuer of {pool.pool_id} is {quoted(issuer)}, but this application trusts "
        f"{listed(pool.issuers, 'and')}: it rejects every token of the pool (wrong_issuer).",
        "For a pool in Cognito, unset COGNITO_M2M_ISSUER and COGNITO_M2M_JWKS_URL: COGNITO_M2M_USER_POOL_ID "
        "is enough. For an emulator, set COGNITO_M2M_ISSUER to the `iss` of its tokens.",
    )


def _issuer_in(answer: Answer) -> str | None:
    try:
        issuer = parse_object(answer.body).get("issuer") if answer.status == 200 else None
    except ValueError:
        return None
    return issuer if isinstance(issuer, str) else None
