"""What a caller can cost a service: a bounded multiple of a valid token, and nothing permanent."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence

import pytest

from flask_m2m_cognito import CognitoAccessTokenValidator, TokenValidationError
from flask_m2m_cognito.inbound.bearer import bearer_token
from flask_m2m_cognito.testing import MovedClock
from tests.attacks.forging import b64, by_rsa, jose_header, valid_token
from tests.attacks.stage import OUR_KID, Scene, Service, bearer

ROUNDS = 240
"""Enough that a moment in which other processes use the CPU caches affects only a part of them."""


def _token(scene: Scene, payload: bytes, header: bytes | None = None) -> str:
    """Build a token whose signature has the usual length: its text is parsed before that is verified."""
    head = json.dumps(jose_header(scene)).encode() if header is None else header
    return f"{b64(head)}.{b64(payload)}.{b64(bytes(256))}"


def _with_claim(claim: str) -> Callable[[Scene], str]:
    """Build valid claims with one more, a known kid and an invalid signature."""
    return lambda scene: bearer(_token(scene, _claims_with(scene, claim)))


def _claims_with(scene: Scene, claim: str) -> bytes:
    return f'{json.dumps(scene.claims())[:-1]},"x":{claim}}}'.encode()


def _with_claim_and_unknown_kid(claim: str) -> Callable[[Scene], str]:
    """Build the same with an unknown kid."""
    header = b'{"alg":"RS256","kid":"unknown"}'
    return lambda scene: bearer(_token(scene, _claims_with(scene, claim), header))


def _with_header(header: str) -> Callable[[Scene], str]:
    return lambda scene: bearer(_token(scene, b"{}", header.encode()))


def _list(value: str, count: int) -> str:
    return f"[{','.join([value] * count)}]"


TOO_MUCH: dict[str, Callable[[Scene], str]] = {
    "64 KiB": lambda scene: "Bearer " + "a" * 65_536,
    "a megabyte of dots": lambda scene: "Bearer " + "." * 1_000_000,
    "8 KiB of letters": lambda scene: "Bearer " + "a" * 8185,
    "8 KiB of dots": lambda scene: "Bearer " + "." * 8185,
    "8 KiB of commas": lambda scene: "x" + "," * 8191,
    "8 KiB of spaces": lambda scene: " " * 8192,
    "8 KiB of spaces after the scheme": lambda scene: "Bearer" + " " * 8186,
    "a nested header": _with_header('{"alg":' + "[" * 3000),
    "a header of many names": _with_header(json.dumps({str(number): 0 for number in range(500)})),
    "alg none": _with_header('{"alg":"none"}'),
}
"""Rejected because it is too long, or because its header is nested too deep or too large."""

SIZE = 5300
"""Bytes of a claim that fits into a header of 8 KiB, with a signature."""


def _filled(value: str, size: int = SIZE) -> str:
    return _list(value, size // (len(value) + 1))


COSTLY: dict[str, str] = {
    # Few or short enough that all of it is parsed before the signature is verified.
    "60 objects": _list('{"":{}}', 30),
    "60 floats": _list("4.94e-324", 60),
    "a fraction of 1500 digits": "0." + "9" * 1500,
    "1500 digits": "9" * 1500,
    # As much as fits.
    "numbers": _filled("1"),
    "floats": _filled("3e-310"),
    "long floats": _filled("2." + "4703282292062327" * 40 + "e-324"),
    "texts": _filled('""'),
    "empty lists": _filled("[]"),
    "empty objects": _filled("{}"),
    "objects": _filled('{"":0}'),
    "names": json.dumps({f"{number:x}": 0 for number in range(500)}),
    "issuers": _filled('{"iss":""}'),
    "a name 1000 times": "{" + '"":0,' * 1000 + '"":0}',
    "nested lists": "[" * 2600 + "]" * 2600,
    "nested lists without an end": "[" * SIZE,
    "nested objects": '{"":' * 1000 + "1" + "}" * 1000,
    "a number of 5000 digits": "9" * 5000,
    "a fraction of 5000 digits": "0." + "9" * 5000,
    "a text of 5000 letters": f'"{"a" * 5000}"',
    "a text of 800 escapes": '"' + "\\u0041" * 800 + '"',
    "a text of 2500 escaped quotes": '"' + '\\"' * 2500 + '"',
    "spaces": " " * SIZE + "1",
}
"""Claims that are expensive to parse, each within the length of a header."""

MOST: dict[str, Callable[[Scene], str]] = {
    "8 KiB of commas before the scheme": lambda scene: "x" + "," * 8100 + "bearer",
    "8 KiB of commas and tabs before the scheme": lambda scene: "x" + ",\t" * 4000 + "bearer",
    "a header of 120 objects": _with_header('{"alg":"RS256","kid":"x","a":' + _list("{}", 120) + "}"),
    "a header with a number of 4000 digits": _with_header('{"alg":' + "9" * 4000 + "}"),
    "a header with numbers of 4290 and 1000 digits": _with_header(
        '{"alg":"RS256","kid":"x","a":[' + "9" * 4290 + "," + "9" * 1000 + "]}"
    ),
    **{
        f"{name}, with {kid}": build(claim)
        for name, claim in COSTLY.items()
        for kid, build in {
            "a known kid": _with_claim,
            "an unknown kid": _with_claim_and_unknown_kid,
        }.items()
    },
    "a header of 3000 letters": lambda scene: bearer(
        _token(
            scene, json.dumps(scene.claims()).encode(), json.dumps(jose_header(scene, x="a" * 3000)).encode()
        )
    ),
    "an unknown kid": lambda scene: bearer(scene.pool.token(headers={"kid": "unknown"})),
    "an invalid signature": _with_claim("1"),
}
"""The largest of each kind that is still parsed."""


def _check(validator: CognitoAccessTokenValidator, header: str) -> None:
    """Do all the work that a request's header causes."""
    try:
        token = bearer_token([header])
        if token is not None:
            validator.validate(token)
    except TokenValidationError:
        pass


def _seconds(call: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread, on which other processes have little influence."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def _undisturbed(times: list[float]) -> float:
    """Return the first quartile: other processes can only lengthen a time."""
    return statistics.quantiles(times, n=4)[0]


def _times(rounds: int, calls: dict[str, Callable[[int], object]]) -> dict[str, list[float]]:
    """Return the times of each call, measured in turns, so the machine's load affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for each in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(lambda call=call, each=each: call(each)))  # type: ignore[misc]
    return times


@pytest.mark.parametrize(
    ("kind", "makers", "bound"),
    [
        pytest.param("too much", TOO_MUCH, 1.0, id="too long or too large costs less"),
        pytest.param("most", MOST, 4.0, id="the largest that is parsed costs up to 4 times as much"),
    ],
)
def test_cost_of_an_invalid_header_is_bounded(
    kind: str, makers: dict[str, Callable[[Scene], str]], bound: float, scene: Scene, warm: Service
) -> None:
    """CWE-400, CWE-407: the ratio to a new valid token."""
    validator = warm.m2m.for_app(warm.app).validator
    valid = [bearer(valid_token(scene, jti=f"{kind} {each}")) for each in range(ROUNDS)]
    invalid = {name: make(scene) for name, make in makers.items()}

    times = _times(
        ROUNDS,
        {
            "valid": lambda each: _check(validator, valid[each]),
            **{name: lambda _, header=header: _check(validator, header) for name, header in invalid.items()},
        },
    )

    usual = _undisturbed(times.pop("valid"))
    ratios = {name: _undisturbed(each) / usual for name, each in times.items()}
    for name, ratio in ratios.items():
        print(f"{ratio:.2f} times a valid token, {usual * 1e6:.0f} us: {name}")
    assert max(ratios.values()) < bound, sorted(ratios.items(), key=lambda item: -item[1])[:5]


def test_rejection_time_does_not_reveal_known_kids(scene: Scene, warm: Service) -> None:
    """CWE-208: invalid signatures with two known kids and an unknown one, all without a download.

    The times differ by no more than the noise of a request. An unknown kid is rejected some 25 us sooner,
    without verifying the signature. That reveals nothing: the pool's JWKS lists the known kids.
    """
    right = valid_token(scene).rpartition(".")[2]
    wrong = b64(bytes(255) + b"1")
    headers = {
        "known": _with(scene, OUR_KID, wrong),
        "another known": _with(scene, scene.first_kid, wrong),
        "known, only the first byte wrong": _with(scene, OUR_KID, "AAAA" + right[4:]),
        "known, only the last bytes wrong": _with(scene, OUR_KID, right[:-6] + "AAAAAA"),
        # As long as a known one: longer text takes longer.
        "unknown": _with(scene, OUR_KID[::-1], wrong),
    }
    requests = scene.requests

    times = _times(
        150, {name: lambda _, header=header: warm.send(header) for name, header in headers.items()}
    )

    medians = {name: statistics.median(each) for name, each in times.items()}
    noise = _spread(times["known"])
    for name, median in medians.items():
        print(f"{median * 1e6:.0f} us, noise {noise * 1e6:.0f} us: {name}")
    known = [median for name, median in medians.items() if name != "unknown"]
    assert max(known) - min(known) < max(noise, 0.05 * medians["known"]), medians
    assert abs(medians["unknown"] - medians["known"]) < max(noise, 60e-6), medians
    assert scene.requests == requests


def _with(scene: Scene, kid: str, signature: str) -> str:
    text = by_rsa(scene, jose_header(scene, kid=kid)).rpartition(".")[0]
    return bearer(f"{text}.{signature}")


def _spread(times: Sequence[float]) -> float:
    """Return the distance between the quartiles."""
    low, _, high = statistics.quantiles(times, n=4)
    return high - low


def test_flood_of_unknown_kids_triggers_one_download(scene: Scene) -> None:
    """RFC 8725, 3.10; CVE-2026-48524 (PyJWT)."""
    service = Service(scene)
    before = scene.requests
    for each in range(200):
        forged = bearer(scene.pool.token(headers={"kid": f"unknown {each}"}))
        assert service.send(forged).reason == "unknown_key"

    assert scene.requests - before == 2  # one at the first request, and one for all unknown kids


def test_flood_logs_ten_single_line_records_a_minute(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CWE-779, CWE-117: path and kid are fields of a record, but not part of its text."""
    clock, now = MovedClock(), time.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now)  # all of it within one minute, on any machine
    with clock:
        service = Service(scene)
    caplog.set_level(logging.DEBUG)
    kid = "\r\nCRITICAL root: all is lost \x1b[2J"
    for each in range(100):
        service.send(bearer(scene.pool.token(headers={"kid": f"{kid}{each}"})), f"/orders?%0d%0a{each}")
        service.send("Bearer nonsense", "/orders/%0d%0aCRITICAL%20root")
        service.send(bearer(by_rsa(scene, jose_header(scene), sha="1")))
    records = [record for record in caplog.records if record.name.startswith("flask_m2m_cognito")]

    # For unknown_key and bad_signature. The path without a view has no guard.
    assert len(records) == 20
    for record in records:
        assert record.getMessage().isprintable()
        assert len(getattr(record, "kid", None) or "") <= 256
