"""Derive Cognito's hosts in a Region: the DNS suffixes and domain names of its partition.

Source: AWS General Reference, "Amazon Cognito Identity endpoints and quotas", and the
``partitions.json`` of the AWS SDKs. For the EU Sovereign Cloud they disagree about the
suffix, so both are trusted.
"""

from __future__ import annotations

import re

_REGION = r"[a-z]{2,5}(-[a-z]+)+-\d{1,2}"
_POOL_ID = rf"(?P<region>{_REGION})_[A-Za-z0-9]{{1,55}}"


def is_region(text: str) -> bool:
    """Return whether ``text`` has the form of a Region's name.

    >>> is_region("us-west-2"), is_region("us-gov-west-1"), is_region("https://us-west-2")
    (True, True, False)
    """
    return re.fullmatch(_REGION, text) is not None


def region_of(user_pool_id: str) -> str | None:
    """Return the Region in a user pool id, or ``None`` if the id is malformed.

    >>> region_of("eu-central-1_AbCdEfGhI")
    'eu-central-1'
    >>> region_of("AbCdEfGhI") is None
    True
    """
    matched = re.fullmatch(_POOL_ID, user_pool_id)
    return matched["region"] if matched else None


def dns_suffixes_of(region: str) -> tuple[str, ...]:
    """Return the DNS suffixes of the Region's Cognito hosts, the most likely first.

    >>> dns_suffixes_of("cn-north-1")
    ('amazonaws.com.cn',)
    """
    if region.startswith("cn-"):
        return ("amazonaws.com.cn",)
    if region.startswith("eusc-"):
        return ("amazonaws.eu", "amazonaws.com")
    return ("amazonaws.com",)


def user_pools_api_urls(region: str) -> tuple[str, ...]:
    """Return the URLs of the Region's user pools API, the most likely first.

    >>> user_pools_api_urls("us-west-2")
    ('https://cognito-idp.us-west-2.amazonaws.com/',)
    """
    return tuple(f"https://cognito-idp.{region}.{suffix}/" for suffix in dns_suffixes_of(region))


def prefix_domain_host(prefix: str, region: str) -> str:
    """Return the host of a pool's prefix domain.

    >>> prefix_domain_host("acme", "eu-west-1")
    'acme.auth.eu-west-1.amazoncognito.com'
    >>> prefix_domain_host("acme", "us-gov-west-1")
    'acme.auth-fips.us-gov-west-1.amazoncognito.com'
    """
    if region.startswith("eusc-"):
        return f"{prefix}.auth.cognito-idp.{region}.on.amazonwebservices.eu"
    service = "auth-fips" if region.startswith("us-gov-") else "auth"
    tail = ".cn" if region.startswith("cn-") else ""
    return f"{prefix}.{service}.{region}.amazoncognito.com{tail}"
