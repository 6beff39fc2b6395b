"""The result of a check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The result of one check. The attributes are the keys of the ``--json`` output.

    Attributes:
        check: the name of the check, such as ``"dns"``.
        said: the result, as a sentence.
        advice: what to do; empty if nothing is wrong.
    """

    check: str
    status: Status
    said: str
    advice: str = ""


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def warning(check: str, said: str, advice: str) -> Finding:
    return Finding(check, "warning", said, advice)


def failed(check: str, said: str, advice: str) -> Finding:
    return Finding(check, "failed", said, advice)


def demote(findings: Iterable[Finding]) -> list[Finding]:
    """Return failures as warnings, where an alternative works."""
    return [replace(each, status="warning") if each.status == "failed" else each for each in findings]


def has_failed(findings: Iterable[Finding]) -> bool:
    return any(each.status == "failed" for each in findings)
