"""Amazon Cognito machine-to-machine tokens for Flask: check those that come in, get those that go out."""

from .exceptions import (
    CognitoTokenRequestError,
    ConfigurationError,
    InsufficientScopeError,
    KeysUnavailableError,
    M2MCognitoError,
    TokenUnavailableError,
    TokenValidationError,
)
from .extension import CognitoM2M
from .inbound.validated_access_token import ValidatedAccessToken
from .inbound.validator import CognitoAccessTokenValidator
from .outbound.token_endpoint import CognitoM2MClient, TokenResponse
from .web.guard import current_token, require_scopes

__version__ = "0.1.0"

__all__ = [
    "CognitoAccessTokenValidator",
    "CognitoM2M",
    "CognitoM2MClient",
    "CognitoTokenRequestError",
    "ConfigurationError",
    "InsufficientScopeError",
    "KeysUnavailableError",
    "M2MCognitoError",
    "TokenResponse",
    "TokenUnavailableError",
    "TokenValidationError",
    "ValidatedAccessToken",
    "current_token",
    "require_scopes",
]
