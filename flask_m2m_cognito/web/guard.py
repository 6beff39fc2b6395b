"""Validates the tokens of one application's requests, and builds the answers to rejected requests."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from flask import Request, Response
from werkzeug.exceptions import HTTPException

from ..exceptions import KeysUnavailableError, TokenValidationError
from ..inbound.bearer import bearer_token
from .problems import Wording, add_challenge_when_caught, problem_from
from .rejection_log import Rejection
from .request_globals import current_request
from .requirement import ANY_TOKEN, Requirement

if TYPE_CHECKING:
    from ..inbound.validated_access_token import ValidatedAccessToken
    from ..inbound.validator import CognitoAccessTokenValidator
    from ..inbound.verified_token import VerifiedToken

PrincipalLoader = Callable[["ValidatedAccessToken"], Any]


class HasPrincipalLoader(Protocol):
    """An object whose loader may be set after the guard was built."""

    loader: PrincipalLoader | None


_NO_OWNER = SimpleNamespace(loader=None)


class Guard:
    """Accepts or rejects the requests of one application.

    Args:
        validator: checks the tokens.
        wording: the parts of answers that the application configures.
        header_name: the header that holds the token.
        on_accepted: called for each accepted request while there are ``listeners``, with the token and
            whether its signature had been verified before.
        listeners: the receivers of ``on_accepted``.
        on_rejected: called for each rejected request.
        owner: its ``loader`` turns a token into the application's own object; the loader may be ``None``.
        named_scopes: returns every scope that the guards of a request's route name.
    """

    def __init__(
        self,
        validator: CognitoAccessTokenValidator,
        wording: Wording,
        header_name: str = "Authorization",
        *,
        on_accepted: Callable[[ValidatedAccessToken, bool], None] = lambda token, is_remembered: None,
        listeners: Collection[Any] = (),
        on_rejected: Callable[[Rejection], None] = lambda rejection: None,
        owner: HasPrincipalLoader = _NO_OWNER,
        named_scopes: Callable[[Request], frozenset[str]] = lambda request: frozenset(),
    ) -> None:
        self._validator = validator
        self.recall: Callable[[str], ValidatedAccessToken | bytes] = validator.recall
        self._wording = wording
        self.on_accepted = on_accepted
        self.listeners = listeners
        self._on_rejected = on_rejected
        self.owner = owner
        self._named_scopes = named_scopes
        self._header_name = header_name
        self.environ_key: str = "HTTP_" + header_name.upper().replace("-", "_")
        # The attribute of a request for a dict with the token, which is empty if the guard rejected it. Each
        # guard has its own, because the context of one application may be pushed inside a request to another.
        self.held_key: str = f"_flask_m2m_cognito_{id(self)}"

    def validate(self, request: Request, digest: bytes | None) -> tuple[ValidatedAccessToken, bool]:
        """Read the request's header and check its token.

        Args:
            digest: the digest of the text after ``Bearer`` and one space, if it was computed.

        Returns:
            The token, and whether its signature was already known to be valid.
        """
        # Two functions: a callable of the application may raise in check(), and then no frame has the token.
        verified = self._verify(request.environ, digest)
        is_remembered = verified.used
        return self._validator.check(verified), is_remembered

    def _verify(self, environ: dict[str, Any], digest: bytes | None = None) -> VerifiedToken:
        value = environ.get(self.environ_key)
        token = bearer_token([] if value is None else [value], self._header_name)
        if value is None or token is None:
            raise TokenValidationError("The request has no access token.", reason="missing_token")
        # With more whitespace around the token, the digest is not that of the token.
        return self._validator.verify(token, digest if value[7:] == token else None)

    def keep_private(self, response: Response) -> Response:
        """Keep shared caches from sending an answer that depends on this guard's header to other callers.

        Needed for headers other than ``Authorization``, for which caches do this (RFC 9111, section 3.5).
        """
        if self.held_key in current_request().__dict__:
            response.vary.add(self._header_name)
            response.cache_control.public = False
            response.cache_control.private = True
        return response

    def reject(
        self,
        error: TokenValidationError | KeysUnavailableError,
        request: Request,
        requirement: Requirement = ANY_TOKEN,
        token: ValidatedAccessToken | None = None,
    ) -> HTTPException:
        """Report a rejection, and return its answer.

        Args:
            error: why the request is rejected; the application may have raised it.
            requirement: what the rejecting guard requires.
            token: the request's token, if the validator accepted it.
        """
        problem = problem_from(error, self._wording)
        if isinstance(problem, TokenValidationError):
            # Only a 403 is certain to concern the request's own token: a view may validate other tokens.
            if token is not None and problem.code == 403:
                self._identify(problem, request.environ, token)
            if problem.required_scopes is None:
                problem.required_scopes = self._needed_scopes(request, requirement)
        answer = problem.answer_of_own_check() or add_challenge_when_caught(problem)
        # Only the rejection of a verified token names the client.
        is_verified = getattr(problem, "token_scopes", None) is not None
        names = ("client_id", "token_scopes", "required_scopes") if is_verified else ()
        self._on_rejected(
            Rejection(
                reason=problem.reason,
                status=answer.code or getattr(answer.response, "status_code", None) or 0,
                kid=getattr(problem, "kid", None),
                pool=getattr(problem, "pool", None),
                path=request.environ.get("PATH_INFO", ""),
                **{name: getattr(problem, name) for name in names},
            )
        )
        return answer

    def _identify(
        self, error: TokenValidationError, environ: dict[str, Any], token: ValidatedAccessToken
    ) -> None:
        """Set the client, the key id and the pool of ``token`` on ``error``."""
        error.client_id, error.token_scopes = token.client_id, token.scopes
        try:
            self._verify(environ).identify(error)
        except (TokenValidationError, KeysUnavailableError):
            return  # the key has been removed since the token was accepted

    def _needed_scopes(self, request: Request, requirement: Requirement) -> frozenset[str]:
        """Return every scope that the settings, ``requirement`` and the route require."""
        here = requirement.scopes_for(request.method) or frozenset()
        return self._validator.required_scopes | here | self._named_scopes(request)
