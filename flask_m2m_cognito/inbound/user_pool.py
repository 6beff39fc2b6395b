"""A user pool: which issuers its tokens may name, and where its keys are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..exceptions import ConfigurationError
from ..formats.regions import dns_suffixes_of, is_region, region_of
from ..formats.urls import http_hosts_from, url_problem

_POOL_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class UserPool:
    """One user pool.

    Attributes:
        pool_id: such as ``us-west-2_AbCdEfGhI``.
        region: such as ``us-west-2``; empty where an issuer was given and no region.
        issuers: what ``iss`` may be, compared as text. The first is the usual one.
        jwks_urls: where its keys are, in the order in which they are asked.
    """

    pool_id: str
    region: str
    issuers: tuple[str, ...]
    jwks_urls: tuple[str, ...]


def user_pool_from(
    pool_id: str,
    *,
    region: str | None = None,
    replica_regions: Iterable[str] = (),
    issuer: str | None = None,
    jwks_url: str | None = None,
    allow_http_hosts: Iterable[str] = (),
) -> UserPool:
    """Return the pool with this id, in Cognito or, with ``issuer``, in an emulator.

    >>> pool = user_pool_from("us-west-2_AbCdEfGhI")
    >>> pool.issuers[0]
    'https://cognito-idp.us-west-2.amazonaws.com/us-west-2_AbCdEfGhI'
    >>> pool.jwks_urls[1]
    'https://issuer-cognito-idp.us-west-2.amazonaws.com/us-west-2_AbCdEfGhI/.well-known/jwks.json'

    Args:
        region: if it is not in the pool id.
        replica_regions: Cognito multi-Region: others whose hosts serve the same pool.
        issuer: instead of Cognito's own two.
        jwks_url: instead of ``<issuer>/.well-known/jwks.json``.
        allow_http_hosts: hosts of these overrides that may be reached over plain http, besides loopback.

    Raises:
        ConfigurationError: there is no pool id, the region is neither given nor in it, or one of them, or
            an override, would lead to another host than Cognito's or over plain http.

    Source: Amazon Cognito Developer Guide, "Verifying JSON web tokens".
    """
    if not pool_id:
        raise ConfigurationError(
            "No user pool is named: give its id, which looks like 'us-west-2_AbCdEfGhI'."
        )
    region = region or region_of(pool_id) or ""
    if issuer is not None:
        issuers: tuple[str, ...] = (issuer,)
    elif region:
        regions = dict.fromkeys((region, *replica_regions))
        _check_parts(pool_id, regions)
        issuers = tuple(f"https://{host}/{pool_id}" for each in regions for host in _list_hosts(each))
    else:
        raise ConfigurationError(
            f"The region of user pool {pool_id!r} is not in its id, which should look like "
            "'us-west-2_AbCdEfGhI': give the region."
        )
    jwks_urls = tuple(f"{each.rstrip('/')}/.well-known/jwks.json" for each in issuers)
    if jwks_url is not None:
        jwks_urls = (jwks_url,)
    http_hosts = http_hosts_from(allow_http_hosts)
    problem = next(filter(None, (url_problem(url, http_hosts) for url in jwks_urls)), None)
    if problem:
        raise ConfigurationError(f"The address of the keys of {pool_id!r} cannot be used: {problem}.")
    return UserPool(pool_id, region, issuers, jwks_urls)


def _check_parts(pool_id: str, regions: Iterable[str]) -> None:
    """Raise unless each is what it should be in the URLs that are made of them."""
    for region in regions:
        if not is_region(region):
            raise ConfigurationError(f"{region!r} is not a region: it should look like 'us-west-2'.")
    if _POOL_ID.fullmatch(pool_id) is None:
        raise ConfigurationError(
            f"{pool_id!r} is not a user pool id: it should look like 'us-west-2_AbCdEfGhI'."
        )


def _list_hosts(region: str) -> list[str]:
    suffixes = dns_suffixes_of(region)
    return [
        f"{service}.{region}.{suffix}"
        for service in ("cognito-idp", "issuer-cognito-idp")
        for suffix in suffixes
    ]
