"""Count what a reader of the main paths has to follow: function calls, files and threads of the library.

    python -m tests.call_counts

prints the table in docs/how-it-works.md.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask

import flask_m2m_cognito
from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.settling import settle

PACKAGE = Path(flask_m2m_cognito.__file__).parent
TESTING = PACKAGE / "testing"
POOL_THREADS = "local-user-pool"


@dataclass
class Count:
    """What one path took.

    Attributes:
        calls: calls of the package's functions, including resumed generators.
        files: the package's files with such a function.
        threads: the number of threads that were started.
    """

    calls: int = 0
    files: set[str] = field(default_factory=set)
    threads: int = 0

    def __str__(self) -> str:
        return f"{self.calls} | {len(self.files)} | {self.threads}"


def count(run: Callable[[], object]) -> Count:
    """Count what ``run`` takes, on this thread and on those that it starts."""
    counted = Count()
    start = threading.Thread.start

    def note(frame: FrameType, event: str, argument: Any) -> None:
        # The threads and calls of the local pool, which is another service, do not count. The body of a class
        # or of an imported module does not count either.
        if event != "call" or threading.current_thread().name.startswith(POOL_THREADS):
            return
        path = Path(frame.f_code.co_filename)
        is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED and not frame.f_code.co_name.startswith(
            "<"
        )
        if PACKAGE in path.parents and path.parent != TESTING and is_function:
            counted.calls += 1
            counted.files.add(str(path.relative_to(PACKAGE)))

    def start_and_count(thread: threading.Thread) -> None:
        if not thread.name.startswith(POOL_THREADS):
            counted.threads += 1
        start(thread)

    threading.Thread.start = start_and_count  # type: ignore[assignment, method-assign]
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
        settle()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        threading.Thread.start = start  # type: ignore[method-assign]
    return counted


def paths() -> dict[str, Count]:
    """Count what each path takes, in one application with the default cache."""
    with LocalUserPool() as pool:
        token, newer = pool.token("inventory/read"), pool.token("inventory/read")
        app = Flask("counted")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        found: dict[str, Count] = {}
        m2m = CognitoM2M()
        found["`init_app`"] = count(lambda: m2m.init_app(app))
        app.get("/items")(m2m.require_scopes("inventory/read")(lambda: "items"))
        client = app.test_client()

        def call(bearer: str) -> None:
            assert client.get("/items", headers={"Authorization": f"Bearer {bearer}"}).status_code == 200

        def with_context(run: Callable[[], object]) -> Callable[[], object]:
            def inside() -> None:
                with app.app_context():
                    run()

            return inside

        client.get("/unknown")  # the first request looks for misplaced guards
        found["cold guarded request"] = count(lambda: call(token))
        found["request with a new token, keys in memory"] = count(lambda: call(newer))
        call(newer)  # parses the claims again, to keep them
        found["request with a known token"] = count(lambda: call(newer))
        found["cold `token()`"] = count(with_context(m2m.token))
        found["`token()` with a token in memory"] = count(with_context(m2m.token))
        return found


if __name__ == "__main__":
    print("| path | calls | files | threads |\n| --- | --- | --- | --- |")
    for name, each in paths().items():
        print(f"| {name} | {each} |")
