"""Derive a user pool's issuers and JWKS URLs from its id."""

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
        issuers: the valid values of ``iss``, compared as text. The first is the usual one.
        jwks_urls: the URLs of its keys, in the order in which they are tried.
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
        region: the AWS Region, if the pool id does not contain it.
        replica_regions: more Regions whose hosts serve the same pool (Cognito multi-Region).
        issuer: replaces Cognito's own two issuers.
        jwks_url: replaces ``<issuer>/.well-known/jwks.json``.
        allow_http_hosts: hosts of these overrides that may be reached over plain http, besides loopback.

    Raises:
        ConfigurationError: the pool id is empty, the Region is unknown, or one of the arguments is invalid
            or would lead to another host than Cognito's or over plain http.

    Source: Amazon Cognito Developer Guide, "Verifying JSON web tokens".
    """
    if not pool_id:
        raise ConfigurationError("The user pool id is empty. Pass an id such as 'us-west-2_AbCdEfGhI'.")
    region = region or region_of(pool_id) or ""
    if issuer is not None:
        issuers: tuple[str, ...] = (issuer,)
    elif region:
        regions = dict.fromkeys((region, *replica_regions))
        _check_parts(pool_id, regions)
        issuers = tuple(f"https://{host}/{pool_id}" for each in regions for host in _list_hosts(each))
    else:
        raise ConfigurationError(
            f"User pool id {pool_id!r} does not contain a Region, as 'us-west-2_AbCdEfGhI' does. "
            "Pass region as well."
        )
    jwks_urls = tuple(f"{each.rstrip('/')}/.well-known/jwks.json" for each in issuers)
    if jwks_url is not None:
        jwks_urls = (jwks_url,)
    http_hosts = http_hosts_from(allow_http_hosts)
    problem = next(filter(None, (url_problem(url, http_hosts) for url in jwks_urls)), None)
    if problem:
        raise ConfigurationError(f"The JWKS URL of user pool {pool_id!r} cannot be used: {problem}.")
    return UserPool(pool_id, region, issuers, jwks_urls)


def _check_parts(pool_id: str, regions: Iterable[str]) -> None:
    """Raise unless the pool id and each Region are safe to put into a URL."""
    for region in regions:
        if not is_region(region):
            raise ConfigurationError(f"{region!r} is not a valid AWS Region. Use a name such as 'us-west-2'.")
    if _POOL_ID.fullmatch(pool_id) is None:
        raise ConfigurationError(
            f"{pool_id!r} is not a valid user pool id. Use an id such as 'us-west-2_AbCdEfGhI'."
        )


def _list_hosts(region: str) -> list[str]:
    suffixes = dns_suffixes_of(region)
    return [
        f"{service}.{region}.{suffix}"
        for service in ("cognito-idp", "issuer-cognito-idp")
        for suffix in suffixes
    ]
