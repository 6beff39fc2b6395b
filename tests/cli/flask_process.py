"""``flask --app … m2m …`` as a person starts it: another process, with its settings in the environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask_m2m_cognito.cli.local_clients import LOCAL_SECRET
from flask_m2m_cognito.testing import LocalUserPool

HERE = Path(__file__).parent
LONGEST = 60
"""Seconds that one command may take on a slow machine."""

_JWT = re.compile(r"eyJ[\w-]+\.eyJ")
"""A kid may have "eyJ" in it, too."""


_FLASK_CACHINGS = ("CACHE_TYPE", "CACHE_DIR", "CACHE_OPTIONS", "CACHE_REDIS_URL")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def line(self, *words: str) -> str:
        """The one line of its output that has all of these words."""
        found = [line for line in self.out.splitlines() if all(word in line for word in words)]
        assert len(found) == 1, f"{len(found)} lines have {words}:\n{self.out}\n{self.err}"
        return found[0]

    def finding(self, status: str, check: str, *words: str) -> str:
        """The one line of a table that begins with these two and has all of these words."""
        found = [line for line in self.out.splitlines() if line.split()[:2] == [status, check]]
        found = [line for line in found if all(word in line for word in words)]
        assert len(found) == 1, f"{len(found)} {status} {check} have {words}:\n{self.out}\n{self.err}"
        return found[0]


class Flask:
    """Runs ``flask m2m`` against a pool, and looks for secrets and tokens in all that it says.

    Args:
        user: the name of the user as whom it runs, for tests that root runs.
    """

    def __init__(self, pool: LocalUserPool, cwd: Path, user: str | None = None) -> None:
        self._pool = pool
        self._cwd = cwd
        self._user: dict[str, Any] = {}
        if user is not None:
            import pwd

            found = pwd.getpwnam(user)
            self._user = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}

    def __call__(
        self,
        *args: str,
        app: str | None = "service:create_app",
        stdin: str = "",
        may_say_token: bool = False,
        **config: Any,
    ) -> Ended:
        """One command. ``config`` is on top of the pool's, without its prefix; ``None`` leaves a key out."""
        done = subprocess.run(
            self.command(app, *args),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environ(config),
            cwd=self._cwd,
            timeout=LONGEST,
            check=False,
            **self._user,
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
        if not may_say_token:
            self.check_says_no_secret(ended.out + ended.err, stdin, config)
        assert "Traceback" not in ended.err
        return ended

    @contextmanager
    def running(
        self, *args: str, app: str | None, stderr: int | None = None, **config: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """One command that goes on until it is told to end. ``stderr`` as for :mod:`subprocess`."""
        process = subprocess.Popen(
            self.command(app, *args),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=self.environ(config),
            cwd=self._cwd,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def command(self, app: str | None, *args: str) -> list[str]:
        return [sys.executable, "-m", "flask", *(["--app", app] if app else []), "m2m", *args]

    def environ(self, config: Mapping[str, Any]) -> dict[str, str]:
        settings = {**self._pool.config(), "COGNITO_M2M_ALLOWED_CLIENT_IDS": "*"}
        for key, value in config.items():
            settings[key if key in _FLASK_CACHINGS else f"COGNITO_M2M_{key}"] = value
        said = {f"FLASK_{key}": json.dumps(value) for key, value in settings.items() if value is not None}
        return {**bare_environ(), **said}

    def check_says_no_secret(self, text: str, stdin: str, config: Mapping[str, Any]) -> None:
        secrets = [secret for client in self._pool.clients for secret in client.secrets]
        given = config.get("CLIENT_SECRET")
        signature = stdin.strip().rpartition(".")[2]
        for hidden in (*secrets, given, config.get("CACHE_KEY"), signature):
            assert not hidden or hidden == LOCAL_SECRET or hidden not in text
        assert _JWT.search(text) is None


def bare_environ() -> dict[str, str]:
    """This process's, without what would change how a command behaves."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("FLASK_", "REQUESTS_", "CURL_"))
    }
    root = str(HERE.parents[1])
    return {**kept, "PYTHONPATH": os.pathsep.join([str(HERE), root]), "PYTHONUTF8": "1"}
