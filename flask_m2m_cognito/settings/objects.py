"""Reads settings that are more than text: objects, callables, secrets and files.

No error raised here contains a secret or any content of a file.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..exceptions import ConfigurationError
from ..formats.strict_json import parse_object
from .values import (
    PRINTABLE,
    Invalid,
    is_json_object,
    objection,
    parse_json,
    read_header_name,
    read_names,
    read_text,
    redacted,
    reject,
)

ANY_CLIENT: Final = "*"


@dataclass(frozen=True)
class SecretFile:
    """A client secret in a file, such as a mounted secret. Calling it reads the file again.

    Raises:
        ConfigurationError: when called, if the file cannot be read or contains no valid secret.
    """

    path: str

    def __call__(self) -> str:
        text, problem = self.read()
        if problem:
            # Raised here and not in read(), so no exception with the file's content is chained to it.
            raise ConfigurationError(f"The client secret file {redacted(self.path)} {problem}.")
        return text

    def read(self) -> tuple[str, str]:
        """Return the text and the problem with it. One of the two is empty."""
        try:
            text = Path(self.path).read_bytes().decode("utf-8-sig", "replace").strip()
        except (OSError, ValueError) as error:
            return "", f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
        if not text:
            return "", "is empty"
        if is_json_document(text):
            return "", f"contains {_JSON_SECRET}"
        if PRINTABLE.fullmatch(text) is None:
            return "", "contains more than one line, or characters other than printable ASCII"
        return text, ""


_JSON_SECRET = (
    "JSON instead of the bare secret; store the bare secret, or set CLIENT_SECRET to a callable that "
    "extracts it"
)


def is_json_document(text: str) -> bool:
    """Return whether ``text`` is a JSON object, list or string, as in secret stores. No secret is one."""
    return isinstance(parse_json(text), dict | list | str)


def read_allowed_clients(value: object) -> frozenset[str] | Callable[[str], bool] | str:
    """Return client ids, a callable, or :data:`ANY_CLIENT`."""
    if callable(value):
        return read_callable(value)
    names = frozenset(read_names(value))
    if ANY_CLIENT in names and len(names) > 1:
        raise Invalid(value, "must be '*' (any client of the pool) or a list of client ids, not both")
    return ANY_CLIENT if ANY_CLIENT in names else names


def read_callable(value: object) -> Callable[..., Any]:
    """Return an ordinary callable. The result of an async one or of a generator would always be true."""
    if not callable(value):
        raise Invalid(value, "must be a callable")
    if any(is_odd(f) for f in (value, type(value).__call__) for is_odd in _RETURNS_NO_ANSWER):
        raise Invalid(value, "must be an ordinary function, not async and not a generator")
    return value


_RETURNS_NO_ANSWER: tuple[Callable[[Any], bool], ...] = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def read_secret(value: object) -> tuple[str, ...] | Callable[[], str | Sequence[str]]:
    if callable(value):
        return read_callable(value)
    secrets = tuple(map(read_text, value if isinstance(value, list | tuple) else [value]))
    if not secrets or not all(map(PRINTABLE.fullmatch, secrets)):
        raise Invalid(value, "must be text in printable ASCII, a list of such texts, or a callable")
    if any(map(is_json_document, secrets)):
        raise Invalid(value, f"it contains {_JSON_SECRET}", verb="is")
    return tuple(dict.fromkeys(secrets))


def read_secret_file(value: object) -> SecretFile:
    if not isinstance(value, str | os.PathLike):
        raise Invalid(type(value), "must be the path of a file that contains only the client secret")
    file = SecretFile(os.fsdecode(value).strip())
    _, problem = file.read()
    if problem:
        # A relative path is not shown: the secret itself, set here by mistake, looks like one.
        invalid_part = file.path if os.path.isabs(file.path) else None
        raise Invalid(invalid_part, f"the file {problem}; it must contain only the client secret", verb="is")
    return file


def read_cache_key(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray) else as_bytes(read_text(value))


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def read_object(value: object) -> dict[str, Any]:
    """Return a dict, also from JSON text, whose keys are text. Its values are not checked."""
    found = parse_json(value) if isinstance(value, str) else value
    if not isinstance(found, Mapping) or not all(isinstance(key, str) and key for key in found):
        raise Invalid(type(value), "must be a dict whose keys are text (in the environment: JSON)")
    return dict(found)


def read_json_object(value: object) -> dict[str, Any]:
    """Return a deep copy of a dict that can be written as JSON."""
    members = read_object(value)
    try:
        json.dumps(members, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise Invalid(value, "its values must be ones that JSON can represent", verb="is") from None
    return deepcopy(members)


def read_texts_by_name(value: object) -> dict[str, str]:
    found = read_object(value)
    odd = [name for name, item in found.items() if objection(read_text, item)]
    reject(odd, "every value must be text (quoted in JSON)", verb="has an invalid value for")
    return {name: read_text(item) for name, item in found.items()}


_OWN_HEADERS: Final = frozenset(
    {"authorization", "content-type", "content-length", "host", "transfer-encoding", "proxy-authorization"}
)


def read_headers(value: object) -> dict[str, str]:
    """Return additional headers for a request. No value is shown: a WAF's header is a shared secret."""
    found = read_texts_by_name(value)
    own = [name for name in found if name.lower() in _OWN_HEADERS]
    reject(own, "the request itself sets headers such as Authorization and Content-Type", verb="sets")
    odd = [name for name in found if objection(read_header_name, name)]
    odd += [name for name, text in found.items() if PRINTABLE.fullmatch(text) is None]
    reject(odd, "use valid header names, and values in printable ASCII", verb="cannot send")
    return found


def read_pinned_keys(value: object) -> dict[str | None, dict[str, Any]]:
    """Return JWK sets (RFC 7517, section 5) by pool id. A single one without a pool id is under ``None``.

    Each may be a dict, JSON text, or the path of a file.
    """
    found = _parsed_keys(value)
    if not isinstance(found, Mapping) or not found or not found.keys().isdisjoint(_OF_KEYS):
        return {None: _key_set(found, value)}
    try:
        return {pool_id: _key_set(_parsed_keys(keys), keys) for pool_id, keys in read_object(found).items()}
    except Invalid as wrong:
        # Not shown: the members of a JWK set here by mistake would be read as paths.
        raise Invalid(None, f"{wrong.advice}, for each pool id") from None


_OF_KEYS = ("keys", "kty")
"""Members of a key set or of a key. No pool id looks like them."""


def _parsed_keys(value: object) -> object:
    if isinstance(value, str | os.PathLike) and not is_json_object(value):
        value = _text_of_file(value)
    if not isinstance(value, str):
        return value
    try:
        return parse_object(value.encode(), keeps_rest=True)
    except ValueError:
        return None


def _key_set(found: object, given: object) -> dict[str, Any]:
    if not isinstance(found, Mapping) or not isinstance(found.get("keys"), list) or not found["keys"]:
        # JSON text is not shown: a set pasted here may contain private keys.
        advice = "must be a JWK set (an object with a non-empty list 'keys'), or the path of a file with one"
        raise Invalid(None if is_json_object(given) else given, advice)
    return deepcopy(dict(found))


def _text_of_file(path: Any) -> str:
    try:
        return Path(os.fsdecode(path)).read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
    looks_like_path = not re.search(r"[\n\"{]", os.fsdecode(path))
    raise Invalid(
        path if looks_like_path else None, f"must be a JWK set, or the path of a file with one ({reason})"
    )
