"""From a raw setting, as Python or the environment gives it, to a checked value.

Every ``read_…`` function takes one raw value and returns the value or raises :class:`Invalid`. Those that
need limits or choices are built by a function named after what they read (``number``, ``one_of``).
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
_POOL_ID = re.compile(r"[A-Za-z0-9._~-]+")  # as it stands in a URL; an emulator's may be "local_1a2b"
_URI_REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")  # RFC 3986, section 2
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN_PREFIX = re.compile(_LABEL)
_DOMAIN_NAME = re.compile(rf"({_LABEL}\.)+(?=[a-z0-9-]*[a-z]){_LABEL}")


class Invalid(Exception):
    """A raw value that can't be used. Never leaves ``settings_from``, which makes a sentence of it.

    Attributes:
        advice: what would be right. Holds nothing of the value.
        invalid_part: the part of the value to show, unless the setting is a secret; ``None`` shows nothing.
        verb: what the setting does with that part.
    """

    def __init__(self, invalid_part: object, advice: str, *, verb: str = "is") -> None:
        super().__init__(advice)
        self.advice = advice
        self.invalid_part = invalid_part
        self.verb = verb


def redacted(value: object) -> str:
    """Return a value as an error shows it: short, without a dict's content or a URL's password.

    >>> redacted("https://me:secret@example.com/")
    '…@example.com/'
    >>> redacted({"CLIENT_SECRET": "…"})
    'a dict'
    """
    parts = value if isinstance(value, list | tuple | set | frozenset) else [value]
    if any(isinstance(part, Mapping) for part in parts):
        return f"a {type(value).__name__}"
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    if "@" in text:
        text = "…" + text[text.rindex("@") :].rstrip("'\"])")
    return text if len(text) <= 60 else text[:59] + "…"


def is_unset(value: object) -> bool:
    """Return whether a raw value counts as unset: ``None``, or text without a character."""
    return value is None or is_blank(value)


def is_blank(value: object) -> bool:
    """Return whether a raw value is text without a character, as an empty environment variable is."""
    return isinstance(value, str) and not value.strip()


def is_empty(value: object) -> bool:
    """Return whether a raw value is ``None``, blank text, an empty collection, or one of these as JSON."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return is_unset(value) or (isinstance(value, Collection) and not value)


def read_text(value: object) -> str:
    """Text, without the space around it. An int is text that JSON took for a number."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        with suppress(ValueError):  # above 4300 digits, Python's limit
            return str(value)
    raise Invalid(value, "give text; from the environment, which is read as JSON, in quotes: '\"1e5\"'")


Reader = Callable[[object], str]


def text_that(is_valid: Callable[[str], object], advice: str) -> Reader:
    """A reader of text for which ``is_valid`` returns something true."""

    def read(value: object) -> str:
        text = read_text(value)
        if not is_valid(text):
            raise Invalid(value, advice)
        return text

    return read


def one_of(*choices: str) -> Reader:
    """A reader of one of a few words."""

    def read(value: object) -> str:
        if value not in choices:
            raise Invalid(value, "give " + " or ".join(map(repr, choices)))
        return str(value)

    return read


read_client_id: Reader = text_that(
    _NO_SPACE.fullmatch, "give the app client's id, printable ASCII without space"
)
read_pool_id: Reader = text_that(
    _POOL_ID.fullmatch, "give a user pool's id ('us-west-2_AbCdEfGhI'), not its ARN, name or URL"
)
read_header_name: Reader = text_that(
    _HTTP_TOKEN.fullmatch, "give a header's name (RFC 9110, 5.6.2), such as 'Authorization'"
)
read_realm: Reader = text_that(PRINTABLE.fullmatch, "give printable ASCII")
read_type_base: Reader = text_that(
    _URI_REFERENCE.fullmatch, "give a URI, such as 'https://errors.example.com/'"
)
read_region: Reader = text_that(is_region, "give a region's name, such as 'us-west-2'")


def read_domain(value: object) -> str:
    """A prefix without dots, or a host name; lower case."""
    text = read_text(value).lower()
    if (_DOMAIN_NAME if "." in text else _DOMAIN_PREFIX).fullmatch(text) is None:
        raise Invalid(
            value,
            "give the prefix of the pool's domain ('acme') or a custom domain's host ('auth.example.com'), "
            "without scheme, port and path; any other endpoint goes into TOKEN_URL, as a whole URL",
        )
    return text


def read_flag(value: object) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    word = value.lower().strip() if isinstance(value, str) else ""
    if word not in _TRUE + _FALSE:
        raise Invalid(value, "give True or False; from the environment also 'yes', '1', 'no' or '0'")
    return word in _TRUE


def number(at_most: float, *, at_least: float | None = None) -> Callable[[object], float]:
    """A reader of a number from ``at_least``, or above 0 without it, to ``at_most``."""
    least = "above 0" if at_least is None else f"at least {at_least:.10g}"

    def read(value: object) -> float:
        found = _float(value)
        low_enough = found <= at_most
        high_enough = found > 0 if at_least is None else found >= at_least
        if not (low_enough and high_enough):  # written so that NaN fails too
            raise Invalid(value, f"give a number {least} and at most {at_most:.10g}")
        return found

    return read


def whole_number(at_most: int) -> Callable[[object], int]:
    """A reader of a whole number from 0 to ``at_most``."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= at_most:
            raise Invalid(value, f"give a whole number from 0 to {at_most}")
        return value

    return read


def timeout(at_most: float) -> Callable[[object], tuple[float, float]]:
    """A reader of (connect, read) from a pair, or from one number for both."""
    read_one = number(at_most)
    advice = f"give seconds, one number or a pair (connect, read), each above 0 and at most {at_most:.10g}"

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
    """Names in order, each once: from a list or set, or from text with commas or white space between them."""
    items = _split(value) if isinstance(value, str) else value
    if isinstance(items, int | float):
        items = [items]
    if isinstance(items, set | frozenset):
        items = sorted(items, key=str)
    if not isinstance(items, list | tuple):
        raise Invalid(value, "give a list of texts, or one text")
    names = tuple(dict.fromkeys(read_text(item) for item in items))
    if "" in names:
        raise Invalid("", "take the empty text out of the list", verb="holds")
    return names


def list_of(read_item: Reader) -> Callable[[object], tuple[str, ...]]:
    """A reader of a list whose every item ``read_item`` accepts."""

    def read(value: object) -> tuple[str, ...]:
        names = read_names(value)
        wrong = [error for name in names if (error := objection(read_item, name))]
        if wrong:
            reject([error.invalid_part for error in wrong], wrong[0].advice)
        return tuple(dict.fromkeys(map(read_item, names)))

    return read


def read_scopes(value: object) -> tuple[str, ...]:
    """Scopes in order, each once. Only whitespace separates them in a text."""
    if isinstance(value, str) and _json_list(value) is None:
        found = requested_scopes(value)
    else:
        found = read_names(value)
    reject([scope for scope in found if not is_scope(scope)], SCOPE_FORM)
    return found


def set_of(read_items: Callable[[object], tuple[str, ...]]) -> Callable[[object], frozenset[str]]:
    """A reader of a set of what ``read_items`` reads."""
    return lambda value: frozenset(read_items(value))


def _split(text: str) -> list[Any]:
    listed = _json_list(text)
    return [part for part in re.split(r"[\s,]+", text) if part] if listed is None else listed


def _json_list(text: str) -> list[Any] | None:
    """The list that ``text`` is as JSON, for loaders that leave it as text."""
    parsed = parse_json(text) if text.lstrip().startswith("[") else None
    return parsed if isinstance(parsed, list) else None


def reject(wrong: Sequence[object], advice: str, *, verb: str = "holds") -> None:
    """Raise :class:`Invalid` if there is anything in ``wrong``."""
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
        raise Invalid(value, problem)
    return url


def read_issuer(value: object, http_hosts: Collection[str]) -> str:
    """An issuer is compared as text, so it stays as it was given."""
    url = read_url(value, http_hosts)
    if "?" in url:
        raise Invalid(value, "an issuer has no query (?)")
    return url


def by_pool(read_one: Callable[..., str]) -> Callable[..., dict[str | None, str]]:
    """A reader of one URL, under ``None``, or of a dict (or JSON) of URLs by pool id."""

    def read(value: object, http_hosts: Collection[str]) -> dict[str | None, str]:
        found = parse_json(value) if is_json_object(value) else value
        if found is value and not isinstance(found, Mapping):
            return {None: read_one(value, http_hosts)}
        if not isinstance(found, Mapping) or not found:
            raise Invalid(value, "give a URL, or a dict of URLs by pool id")
        return {read_pool_id(pool_id): read_one(url, http_hosts) for pool_id, url in found.items()}

    return read


def read_urls(value: object, http_hosts: Collection[str]) -> tuple[str, ...]:
    urls = read_names(value)
    problems = [problem for url in urls if (problem := url_problem(url, http_hosts))]
    if problems:
        # The whole text and not the part that is wrong: of a password with a space in it, a part has no @.
        raise Invalid(value, problems[0])
    if not urls:
        raise Invalid(value, "name at least one URL, or leave the setting out")
    return urls


def is_json_object(value: object) -> TypeGuard[str]:
    """Return whether a raw value is text that begins like a JSON object."""
    return isinstance(value, str) and value.lstrip().startswith("{")


def parse_json(text: str) -> object:
    """Return the value of JSON text, or ``None`` if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
