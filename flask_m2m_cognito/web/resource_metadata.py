"""Serves protected resource metadata, which says where clients get tokens and for which scopes (RFC 9728)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import Flask, Response, current_app, jsonify, request

from .protection import public
from .requirement import ANY_TOKEN, Requirement
from .routes import scopes_of_routes

WELL_KNOWN = "/.well-known/oauth-protected-resource"


def metadata_path(resource: str) -> str:
    """Return the path of a resource's metadata: the well-known path, then the resource's own path.

    >>> metadata_path("https://api.example.com/"), metadata_path("https://api.example.com/stock/")
    ('/.well-known/oauth-protected-resource', '/.well-known/oauth-protected-resource/stock/')

    Source: RFC 9728, section 3.1. A slash is removed only if it is the whole path.
    """
    path = urlsplit(resource).path
    return WELL_KNOWN + ("" if path == "/" else path)


def metadata_url(resource: str) -> str:
    """Return the URL of a resource's metadata, for the challenge (RFC 9728, section 5.1)."""
    return urlsplit(resource)._replace(path=metadata_path(resource), fragment="").geturl()


def serve_metadata(
    app: Flask,
    resource: str,
    issuers: Iterable[str],
    more: Mapping[str, Any],
    of_every_token: Requirement = ANY_TOKEN,
) -> None:
    """Make ``app`` serve its metadata document publicly, at the resource's path and at the root.

    Args:
        resource: the identifier of the application.
        issuers: the authorization servers whose tokens it accepts.
        more: further members, which replace generated ones of the same name.
        of_every_token: what the settings require of every token, besides the views.
    """
    servers = list(issuers)

    @public
    def document() -> Response:
        if request.method == "OPTIONS":
            return _preflight_answer()
        response = jsonify(
            {
                "resource": resource,
                "authorization_servers": servers,
                "bearer_methods_supported": ["header"],
                "scopes_supported": sorted(scopes_of_routes(current_app) | of_every_token.scopes),
                **more,
            }
        )
        response.cache_control.public = True
        response.cache_control.max_age = 3600
        # Clients in browsers read it from other origins.
        response.access_control_allow_origin = "*"
        return response

    # A server decodes the path. Clients without a challenge try the root path, too.
    for path in dict.fromkeys((unquote(metadata_path(resource)), WELL_KNOWN)):
        app.add_url_rule(
            path,
            endpoint="cognito_m2m_metadata",
            view_func=document,
            methods=["GET", "OPTIONS"],
            provide_automatic_options=False,
        )


def _preflight_answer() -> Response:
    """Allow a browser to send any header except ``Authorization``, which the public document does not need.

    MCP clients send ``MCP-Protocol-Version``, so browsers ask before they read the document.
    """
    return Response(
        status=204,
        headers={
            "Allow": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "*",
            "Access-Control-Max-Age": "3600",
        },
    )
