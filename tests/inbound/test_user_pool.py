"""A pool's issuers and JWKS URLs, in every partition."""

from __future__ import annotations

from typing import Any

import pytest

from flask_m2m_cognito import CognitoAccessTokenValidator, ConfigurationError
from flask_m2m_cognito.formats.regions import dns_suffixes_of, is_region, prefix_domain_host, region_of
from flask_m2m_cognito.inbound.user_pool import user_pool_from


@pytest.mark.parametrize(
    ("pool_id", "hosts"),
    [
        pytest.param(
            "us-west-2_AbCdEfGhI",
            ["cognito-idp.us-west-2.amazonaws.com", "issuer-cognito-idp.us-west-2.amazonaws.com"],
            id="commercial",
        ),
        pytest.param(
            "us-gov-west-1_AbCdEfGhI",
            ["cognito-idp.us-gov-west-1.amazonaws.com", "issuer-cognito-idp.us-gov-west-1.amazonaws.com"],
            id="GovCloud",
        ),
        pytest.param(
            "cn-north-1_AbCdEfGhI",
            ["cognito-idp.cn-north-1.amazonaws.com.cn", "issuer-cognito-idp.cn-north-1.amazonaws.com.cn"],
            id="China",
        ),
        pytest.param(
            "eusc-de-east-1_AbCdEfGhI",
            [
                "cognito-idp.eusc-de-east-1.amazonaws.eu",
                "cognito-idp.eusc-de-east-1.amazonaws.com",
                "issuer-cognito-idp.eusc-de-east-1.amazonaws.eu",
                "issuer-cognito-idp.eusc-de-east-1.amazonaws.com",
            ],
            id="EU Sovereign Cloud, with both suffixes",
        ),
    ],
)
def test_both_issuers_of_the_partition_are_trusted(pool_id: str, hosts: list[str]) -> None:
    pool = user_pool_from(pool_id)
    assert pool.issuers == tuple(f"https://{host}/{pool_id}" for host in hosts)
    assert pool.jwks_urls == tuple(f"{issuer}/.well-known/jwks.json" for issuer in pool.issuers)
    assert pool.region == pool_id.partition("_")[0]


def test_replica_hosts_are_trusted_and_tried_last() -> None:
    pool = user_pool_from("us-east-1_AbCdEfGhI", replica_regions=["eu-west-1", "ap-south-1"])
    assert pool.issuers == tuple(
        f"https://{service}.{region}.amazonaws.com/us-east-1_AbCdEfGhI"
        for region in ("us-east-1", "eu-west-1", "ap-south-1")
        for service in ("cognito-idp", "issuer-cognito-idp")
    )
    assert pool.jwks_urls[-1].startswith("https://issuer-cognito-idp.ap-south-1.")


def test_own_region_as_a_replica_is_not_repeated() -> None:
    pool = user_pool_from("us-east-1_AbCdEfGhI", replica_regions=["us-east-1"])
    assert pool.issuers == user_pool_from("us-east-1_AbCdEfGhI").issuers


def test_issuer_override_also_changes_the_jwks_url() -> None:
    pool = user_pool_from("local", issuer="http://localhost:9229/local/", replica_regions=["eu-west-1"])
    assert pool.issuers == ("http://localhost:9229/local/",)
    assert pool.jwks_urls == ("http://localhost:9229/local/.well-known/jwks.json",)


def test_jwks_url_override_does_not_change_the_issuers() -> None:
    pool = user_pool_from("us-west-2_AbCdEfGhI", jwks_url="https://mirror.example.com/keys")
    assert pool.jwks_urls == ("https://mirror.example.com/keys",)
    assert pool.issuers == user_pool_from("us-west-2_AbCdEfGhI").issuers


def test_region_argument_overrides_the_pool_id() -> None:
    assert "eu-west-1" in user_pool_from("us-west-2_AbCdEfGhI", region="eu-west-1").issuers[0]


@pytest.mark.parametrize(
    "named",
    [
        pytest.param({"user_pool_id": "AbCdEfGhI"}, id="a pool id without a region"),
        pytest.param({"region": "us-west-2"}, id="a region without a pool"),
        pytest.param({}, id="nothing"),
        pytest.param({"pools": []}, id="an empty list of pools"),
    ],
)
def test_validator_without_a_complete_pool_is_an_error(named: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        CognitoAccessTokenValidator(**named)


@pytest.mark.parametrize(
    "named",
    [
        {"region": "evil.example/#", "user_pool_id": "us-east-1_AbCdEfGhI"},
        {"region": "us-east-1.evil.example", "user_pool_id": "AbCdEfGhI"},
        {"region": "us-east-1@evil.example", "user_pool_id": "AbCdEfGhI"},
        {"region": "us-east-1", "user_pool_id": "../x"},
        {"region": "us-east-1", "user_pool_id": ".."},
        {"region": "us-east-1", "user_pool_id": "x/y"},
        {"region": "us-east-1", "user_pool_id": "x?y#"},
        {"region": "us-east-1", "user_pool_id": "x\ny"},
    ],
    ids=str,
)
def test_region_or_pool_id_of_another_host_is_rejected(named: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        CognitoAccessTokenValidator(**named)


def test_plain_http_override_to_an_allowed_host_is_used() -> None:
    pool = user_pool_from("a_b", issuer="http://emulator:9229/a_b", allow_http_hosts=["emulator"])
    assert pool.jwks_urls == ("http://emulator:9229/a_b/.well-known/jwks.json",)
    with pytest.raises(ConfigurationError, match="ALLOW_HTTP_HOSTS"):
        user_pool_from("a_b", issuer="http://emulator.evil/a_b", allow_http_hosts=["emulator"])


@pytest.mark.parametrize(
    "override",
    [
        {"issuer": "http://idp.example.com/pool"},
        {"jwks_url": "http://mirror.example.com/keys"},
        {"jwks_url": "https://somebody@mirror.example.com/keys"},
        {"replica_regions": ["evil.example/x?"]},
    ],
    ids=str,
)
def test_unsafe_override_is_rejected(override: Any) -> None:
    with pytest.raises(ConfigurationError):
        user_pool_from("us-west-2_AbCdEfGhI", **override)


@pytest.mark.parametrize(
    ("pool_id", "region"),
    [
        ("us-west-2_AbCdEfGhI", "us-west-2"),
        ("us-gov-east-1_A1", "us-gov-east-1"),
        ("us-isob-east-1_A1", "us-isob-east-1"),
        ("ap-southeast-12_A1", "ap-southeast-12"),
        ("eusc-de-east-1_A1", "eusc-de-east-1"),
        ("us-west-2", None),
        ("us-west-2_", None),
        ("us-west-2_A/../B", None),
        ("us-west-2_A\n", None),
        ("US-WEST-2_A", None),
        ("us-west-2.evil.example_A", None),
        ("", None),
    ],
)
def test_region_is_parsed_from_complete_pool_ids_only(pool_id: str, region: str | None) -> None:
    assert region_of(pool_id) == region


@pytest.mark.parametrize(
    "text", ["us-west-2\n", "us-west", "2", "us_west_2", "us-west-2.evil.example", "us-west-123"]
)
def test_malformed_region_is_not_a_region(text: str) -> None:
    assert not is_region(text)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "acme.auth.eu-west-1.amazoncognito.com"),
        ("us-gov-west-1", "acme.auth-fips.us-gov-west-1.amazoncognito.com"),
        ("cn-northwest-1", "acme.auth.cn-northwest-1.amazoncognito.com.cn"),
        ("eusc-de-east-1", "acme.auth.cognito-idp.eusc-de-east-1.on.amazonwebservices.eu"),
    ],
)
def test_prefix_domain_follows_the_partition(region: str, host: str) -> None:
    assert prefix_domain_host("acme", region) == host


def test_similar_region_names_have_the_usual_suffix() -> None:
    assert dns_suffixes_of("ca-central-1") == ("amazonaws.com",)
    assert dns_suffixes_of("eu-central-1") == ("amazonaws.com",)
