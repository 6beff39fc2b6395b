"""Validate and obtain Amazon Cognito machine-to-machine access tokens in Flask applications."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .app.app_m2m import AppM2M
from .exceptions import (
    CognitoTokenRequestError,
    ConfigurationError,
    InsufficientScopeError,
    KeysUnavailableError,
    M2MCognitoError,
    Reason,
    TokenUnavailableError,
    TokenValidationError,
)
from .extension import CognitoM2M
from .web.decorators import current_principal, current_token, require_scopes

if TYPE_CHECKING:
    from .inbound.validated_access_token import ValidatedAccessToken
    from .inbound.validator import CognitoAccessTokenValidator
    from .outbound.bearer_auth import BearerAuth
    from .outbound.token_answer import TokenResponse
    from .outbound.token_endpoint import CognitoM2MClient
    from .telemetry.health import Health
    from .web.routes import Route, RouteNeed

__version__ = "0.1.0"

__all__ = [
    "AppM2M",
    "BearerAuth",
    "CognitoAccessTokenValidator",
    "CognitoM2M",
    "CognitoM2MClient",
    "CognitoTokenRequestError",
    "ConfigurationError",
    "Health",
    "InsufficientScopeError",
    "KeysUnavailableError",
    "M2MCognitoError",
    "Reason",
    "Route",
    "RouteNeed",
    "TokenResponse",
    "TokenUnavailableError",
    "TokenValidationError",
    "ValidatedAccessToken",
    "current_principal",
    "current_token",
    "require_scopes",
]

# These are imported at first use or by init_app, because they take most of the import time.
_WHERE = {
    "BearerAuth": ".outbound.bearer_auth",
    "CognitoAccessTokenValidator": ".inbound.validator",
    "CognitoM2MClient": ".outbound.token_endpoint",
    "Health": ".telemetry.health",
    "Route": ".web.routes",
    "RouteNeed": ".web.routes",
    "TokenResponse": ".outbound.token_answer",
    "ValidatedAccessToken": ".inbound.validated_access_token",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
