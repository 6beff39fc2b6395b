"""Reads settings: from a raw value, set in Python or in the environment, to a checked one.

Every ``read_…`` function takes one raw value. It returns the checked value or raises :class:`Invalid`.
Readers with limits or choices are built by functions named after the kind of value (``number``, ``one_of``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeGuard

from ..formats.regions import is_region
from ..formats.scopes import SCOPE_FORM, is_scope, requested_scopes
from ..formats.urls import http_host_problem, http_hosts_from, url_problem

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
_HTTP_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
PRINTABLE = re.compile(r"[\x20-\x7E]+")
_NO_SPACE = re.compile(r"[\x21-\x7E]+")
_POOL_ID = re.compile(r"[A-Za-z0-9._~-]+")  # what a URL path may hold; an emulator's may be "local_1a2b"
_URI_REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")  # RFC 3986, section 2
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN_PREFIX = re.compile(_LABEL)
_DOMAIN_NAME = re.compile(rf"({_LABEL}\.)+(?=[a-z0-9-]*[a-z]){_LABEL}")


class Invalid(Exception):
    """A raw value that is invalid. Never leaves ``settings_from``, which reports it.

    Attributes:
        advice: what is valid: ``"must be …"``, or with a ``verb`` an explanation. Never contains the value.
        invalid_part: the part of the value to show, unless the setting is a secret; ``None`` shows nothing.
        verb: what the setting does with that part, such as ``"contains"``.
    """

    def __init__(self, invalid_part: object, advice: str, *, verb: str = "") -> None:
        super().__init__(advice)
        self.advice = advice
        self.invalid_part = invalid_part
        self.verb = verb

    def sentence(self, *, hidden: bool = False) -> str:
        """Return the sentence that follows the name of the setting, without the value if it is ``hidden``.

        >>> Invalid(-1, "must be above 0").sentence()
        'must be above 0, got -1'
        >>> Invalid("a,b", "a scope has no comma", verb="contains").sentence()
        "contains 'a,b': a scope has no comma"
        """
        if hidden or self.invalid_part is None:
            if self.verb:
                return f"is invalid (the value is not shown): {self.advice}"
            return f"{self.advice}; the value is not shown"
        part = redacted(self.invalid_part)
        return f"{self.verb} {part}: " + self.advice if self.verb else f"{self.advice}, got " + part


def redacted(value: object) -> str:
    """Return a value as an error message shows it: short, without a dict's content or a URL's password.

    >>> redacted("https://me:secret@example.com/")
    '…@example.com/'
    >>> redacted({"CLIENT_SECRET": "…"}), redacted(int)
    ('a dict', 'an int')
    """
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    kind = f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"
    parts = value if isinstance(value, list | tuple | set | frozenset) else [value]
    if any(isinstance(part, Mapping | type) for part in parts):
        return kind
    try:
        text = repr(value)
    except Exception:
        return kind
    if "@" in text:
        text = "…" + text[text.rindex("@") :].rstrip("'\"])")
    return text if len(text) <= 60 else text[:59] + "…"


def is_unset(value: object) -> bool:
    """Return whether a raw value counts as unset: ``None`` or blank text."""
    return value is None or is_blank(value)


def is_blank(value: object) -> bool:
    """Return whether a raw value is blank text, such as an empty environment variable."""
    return isinstance(value, str) and not value.strip()


def is_empty(value: object) -> bool:
    """Return whether a raw value is ``None``, blank text, an empty collection, or one of these as JSON."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return is_unset(value) or (isinstance(value, Collection) and not value)


def read_text(value: object) -> str:
    """Return text, without the whitespace around it. An int is text that JSON parsed as a number."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        with suppress(ValueError):  # above 4300 digits, Python's limit
            return str(value)
    raise Invalid(
        value, "must be text (in the environment, put quotes around text that is also JSON: '\"1e5\"')"
    )


Reader = Callable[[object], str]


def text_that(is_valid: Callable[[str], object], advice: str) -> Reader:
    """Return a reader of text for which ``is_valid`` returns a true value."""

    def read(value: object) -> str:
        text = read_text(value)
        if not is_valid(text):
            raise Invalid(value, advice)
        return text

    return read


def one_of(*choices: str) -> Reader:
    """Return a reader that accepts one of ``choices``."""

    def read(value: object) -> str:
        if value not in choices:
            raise Invalid(value, "must be " + " or ".join(map(repr, choices)))
        return str(value)

    return read


read_client_id: Reader = text_that(
    _NO_SPACE.fullmatch, "must be an app client id, in printable ASCII without whitespace"
)
read_pool_id: Reader = text_that(
    _POOL_ID.fullmatch, "must be a user pool id such as 'us-west-2_AbCdEfGhI', not an ARN, name or URL"
)
read_header_name: Reader = text_that(
    _HTTP_TOKEN.fullmatch, "must be a header name such as 'Authorization' (RFC 9110, section 5.6.2)"
)
read_realm: Reader = text_that(PRINTABLE.fullmatch, "must be printable ASCII")
read_type_base: Reader = text_that(
    _URI_REFERENCE.fullmatch, "must be a URI such as 'https://errors.example.com/'"
)
read_region: Reader = text_that(is_region, "must be a Region such as 'us-west-2'")


def read_domain(value: object) -> str:
    """Return a prefix without dots, or a host name, in lower case."""
    text = read_text(value).lower()
    if (_DOMAIN_NAME if "." in text else _DOMAIN_PREFIX).fullmatch(text) is None:
        raise Invalid(
            value,
            "must be the prefix of the pool's domain ('acme') or the host of a custom domain "
            "('auth.example.com'), without scheme, port and path (for any other endpoint, set TOKEN_URL)",
        )
    return text


def read_flag(value: object) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    word = value.lower().strip() if isinstance(value, str) else ""
    if word not in _TRUE + _FALSE:
        raise Invalid(value, "must be True or False (in the environment also 'yes', '1', 'no' or '0')")
    return word in _TRUE


def number(
    at_most: float, *, at_least: float | None = None, unit: str = " seconds"
) -> Callable[[object], float]:
    """Return a reader of a number from ``at_least``, or above 0 without it, to ``at_most``."""
    most = f"{at_most:.10g}{unit}"
    advice = f"must be above 0 and at most {most}"
    if at_least is not None:
        advice = f"must be between {at_least:.10g} and {most}"

    def read(value: object) -> float:
        found = _float(value)
        low_enough = found <= at_most
        high_enough = found > 0 if at_least is None else found >= at_least
        if not (low_enough and high_enough):  # written so that NaN fails too
            raise Invalid(value, advice)
        return found

    return read


def whole_number(at_most: int) -> Callable[[object], int]:
    """Return a reader of a whole number from 0 to ``at_most``."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= at_most:
            raise Invalid(value, f"must be a whole number from 0 to {at_most}")
        return value

    return read


def timeout(at_most: float) -> Callable[[object], tuple[float, float]]:
    """Return a reader of (connect, read), in seconds, from a pair or from one number for both."""
    read_one = number(at_most)
    advice = f"must be one number or a pair (connect, read), each above 0 and at most {at_most:.10g} seconds"

    def read(value: object) -> tuple[float, float]:
        parts = _split(value) if isinstance(value, str) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        try:
            times = [read_one(part) for part in parts]
        except Invalid:
            raise Invalid(value, advice) from None
        if len(times) not in (1, 2):
            raise Invalid(value, advice)
        return times[0], times[-1]

    return read


def _float(value: object) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def read_names(value: object) -> tuple[str, ...]:
    """Return names in order, each once, from a list, a set, or text separated by commas or whitespace."""
    items = _split(value) if isinstance(value, str) else value
    if isinstance(items, int | float):
        items = [items]
    if isinstance(items, set | frozenset):
        items = sorted(items, key=str)
    if not isinstance(items, list | tuple):
        raise Invalid(value, "must be text or a list of texts")
    names = tuple(dict.fromkeys(read_text(item) for item in items))
    if "" in names:
        raise Invalid("", "remove the empty text from the list", verb="contains")
    return names


def list_of(read_item: Reader) -> Callable[[object], tuple[str, ...]]:
    """Return a reader of a list whose items ``read_item`` accepts."""

    def read(value: object) -> tuple[str, ...]:
        names = read_names(value)
        wrong = [error for name in names if (error := objection(read_item, name))]
        if wrong:
            reject([error.invalid_part for error in wrong], wrong[0].advice, verb=wrong[0].verb)
        return tuple(dict.fromkeys(map(read_item, names)))

    return read


def read_scopes(value: object) -> tuple[str, ...]:
    """Return scopes in order, each once. In text only whitespace separates them."""
    if isinstance(value, str) and _json_list(value) is None:
        found = requested_scopes(value)
    else:
        found = read_names(value)
    reject([scope for scope in found if not is_scope(scope)], SCOPE_FORM)
    return found


def set_of(read_items: Callable[[object], tuple[str, ...]]) -> Callable[[object], frozenset[str]]:
    """Return a reader of a set of the items that ``read_items`` returns."""
    return lambda value: frozenset(read_items(value))


def _split(text: str) -> list[Any]:
    listed = _json_list(text)
    return [part for part in re.split(r"[\s,]+", text) if part] if listed is None else listed


def _json_list(text: str) -> list[Any] | None:
    """Return the list that ``text`` is as JSON, or ``None``. Some loaders leave JSON as text."""
    parsed = parse_json(text) if text.lstrip().startswith("[") else None
    return parsed if isinstance(parsed, list) else None


def reject(wrong: Sequence[object], advice: str, *, verb: str = "contains") -> None:
    """Raise :class:`Invalid` unless ``wrong`` is empty."""
    if wrong:
        raise Invalid(one_or_all(wrong), advice, verb=verb)


def objection(read: Callable[[object], object], value: object) -> Invalid | None:
    try:
        read(value)
    except Invalid as wrong:
        return wrong
    return None


def one_or_all(values: Sequence[object]) -> object:
    return values[0] if len(values) == 1 else list(values)


def read_http_hosts(value: object) -> tuple[str, ...]:
    hosts = read_names(value)
    wrong = [host for host in hosts if http_host_problem(host)]
    reject(wrong, str(http_host_problem(wrong[0])) if wrong else "")
    return http_hosts_from(hosts)


def read_url(value: object, http_hosts: Collection[str]) -> str:
    url = read_text(value)
    problem = url_problem(url, http_hosts)
    if problem:
        raise Invalid(value, problem, verb="is")
    return url


def read_issuer(value: object, http_hosts: Collection[str]) -> str:
    """Return an issuer unchanged, because issuers are compared as text."""
    url = read_url(value, http_hosts)
    if "?" in url:
        raise Invalid(value, "must be a URL without a query (?)")
    return url


def by_pool(read_one: Callable[..., str]) -> Callable[..., dict[str | None, str]]:
    """Return a reader of one URL, under ``None``, or of a dict (or JSON) of URLs by pool id."""

    def read(value: object, http_hosts: Collection[str]) -> dict[str | None, str]:
        found = parse_json(value) if is_json_object(value) else value
        if found is value and not isinstance(found, Mapping):
            return {None: read_one(value, http_hosts)}
        if not isinstance(found, Mapping) or not found:
            raise Invalid(value, "must be a URL, or a dict of URLs by pool id")
        return {read_pool_id(pool_id): read_one(url, http_hosts) for pool_id, url in found.items()}

    return read


def read_urls(value: object, http_hosts: Collection[str]) -> tuple[str, ...]:
    urls = read_names(value)
    problems = [problem for url in urls if (problem := url_problem(url, http_hosts))]
    if problems:
        # Not only the invalid part: if a password contains a space, a part may have no @, and would be shown.
        raise Invalid(value, problems[0], verb="is")
    if not urls:
        raise Invalid(value, "must name at least one URL")
    return urls


def is_json_object(value: object) -> TypeGuard[str]:
    """Return whether a raw value is text that begins as a JSON object does."""
    return isinstance(value, str) and value.lstrip().startswith("{")


def parse_json(text: str) -> object:
    """Return the value of JSON text, or ``None`` if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
