"""Phrases that may not come back: each with the usual one, which a reader would search for.

This is a floor, not the goal. The goal is a stranger who reads each sentence once.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PHRASES = {
    r"(to|can't|can not|cannot|could not|couldn't) be had": "unavailable, could not be fetched",
    r"(is|are) to be had": "is available",
    r"who(m|se)?ever|of whom|(for|by|from|with|to|of) who": "the caller, the operator, anyone who",
    r"(that|which|who) (is|are) none|there is none (in|at) hand": "malformed, missing, nothing cached",
    r"in hand|at hand": "in memory, cached, available",
    r"anew|once more|for ever": "again, forever",
    r"mend(s|ed|ing)?": "fix",
    r"person's token|tokens? of (a person|people)|people's tokens": "user access token",
    r"(is|are) (not|no) good|no good|good tokens?|good signatures?": "valid, invalid",
    r"(token|value|key|entry|life|it) (that )?has ended|ended token": "expired",
    r"said aloud|says? aloud|not said": "set, unset, explicitly allows",
    r"demand(s|ed|ing)?": "requirement, required",
    r"rest(s|ing)": "backoff, backs off",
    r"flights?|watchers?|flaws?|vitals|culprits?": "attempt, instrumentation, defect, snapshot, value",
    r"(take|takes|taken|took|taking) apart": "decode without verifying",
    r"nobody's|as nobody": "anonymous, unauthenticated",
    r"(is|are|was|were|be|been) told( of)?|tells? of": "is notified, is logged, reports",
    r"goes? on (serving|working)": "keeps serving, keeps working",
    r"does for itself|for itself alone": "each process fetches its own",
    r"in (a|the|its) \w+'s stead|in vain|thereof|whereof|hence": "(say it plainly)",
    r"(puts?|sets?|starts?) anew": "restarts",
    r"(is|was|are|were) let in|lets? \w+ in": "is accepted, is allowed",
}
"""A regular expression for whole words, in any case, and what to write."""

_ALLOWED = re.compile(r"watcher-failed")
"""The name of an event, which stays."""


def files() -> list[Path]:
    """Return every file with text for people."""
    kinds = {".py", ".md", ".html", ".js", ".css", ".yml", ".toml", ".svg", ".json"}
    folders = ["flask_m2m_cognito", "docs", "example_app", "tests", "README.md", "pyproject.toml", ".ci"]
    found = [
        path
        for folder in folders
        for path in ([ROOT / folder] if (ROOT / folder).is_file() else (ROOT / folder).rglob("*"))
    ]
    return [
        path
        for path in sorted(found)
        if (path.suffix in kinds or path.parent.name == ".ci")
        and path.is_file()
        and "_build" not in path.parts
        and path != Path(__file__)
    ]


@pytest.mark.parametrize("phrase", PHRASES, ids=PHRASES.values())
def test_phrase_does_not_come_back(phrase: str) -> None:
    words = phrase.replace(" ", r"[\s#*>]+")  # also over the end of a line
    pattern = re.compile(rf"\b({words})\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in TEXTS.items()
        for match in pattern.finditer(text)
    ]
    assert not found, f"Write: {PHRASES[phrase]}\n" + "\n".join(found)


TEXTS = {path: _ALLOWED.sub("", path.read_text("utf-8", "replace")) for path in files()}
