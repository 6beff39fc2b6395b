"""Run ``flask --app … m2m …`` in its own process, with the settings in the environment.

The imports of one command take 0.5 s of CPU. So each process is forked from a server that has only
imported them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from itertools import takewhile
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import flask_m2m_cognito
from flask_m2m_cognito.cli.local_clients import LOCAL_SECRET
from flask_m2m_cognito.testing import LocalUserPool

HERE = Path(__file__).parent
LONGEST = 60
"""The most seconds that one command may take on a slow machine."""

_METHODS = multiprocessing.get_all_start_methods()
_CONTEXT: Any = multiprocessing.get_context("forkserver" if "forkserver" in _METHODS else "spawn")
_CONTEXT.set_forkserver_preload(
    [
        "cryptography.fernet",
        "flask_caching",
        *(command.module for command in entry_points(group="flask.commands")),  # `flask` itself loads these
        *(module.name for module in walk_packages(flask_m2m_cognito.__path__, "flask_m2m_cognito.")),
    ]
)

_JWT = re.compile(r"eyJ[\w-]+\.eyJ")
"""The start of a JWT. A ``kid`` may contain "eyJ", too."""


_FLASK_CACHINGS = ("CACHE_TYPE", "CACHE_DIR", "CACHE_OPTIONS", "CACHE_REDIS_URL")


@dataclass(frozen=True)
class Outcome:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def line(self, *words: str, begins: tuple[str, ...] = ()) -> str:
        """Return the one line of its output that begins with ``begins`` and has all of these words."""
        found = [
            line
            for line in self.out.splitlines()
            if line.split()[: len(begins)] == list(begins) and all(word in line for word in words)
        ]
        assert len(found) == 1, f"{len(found)} lines have {begins} {words}:\n{self.out}\n{self.err}"
        return found[0]

    def finding(self, status: str, check: str, *words: str) -> str:
        """Return the one line of a table that begins with these two and has all of these words."""
        return self.line(*words, begins=(status, check))


class Flask:
    """Runs ``flask m2m`` against a pool, and checks that its output has no secret and no token.

    Args:
        user: the name of the user that runs the command, for tests that root runs.
    """

    def __init__(self, pool: LocalUserPool, cwd: Path, user: str | None = None) -> None:
        self._pool = pool
        self._cwd = cwd
        self._user = user

    def __call__(
        self,
        *args: str,
        app: str | None = "service:create_app",
        stdin: str = "",
        may_print_token: bool = False,
        **config: Any,
    ) -> Outcome:
        """Run one command. ``config`` overrides the pool's, without the prefix; ``None`` omits a key."""
        ended = self._run(self.arguments(app, *args), stdin, self.environ(config))
        if not may_print_token:
            self.check_has_no_secret(ended.out + ended.err, stdin, config)
        assert "Traceback" not in ended.err
        return ended

    def _run(self, args: list[str], stdin: str, environ: dict[str, str]) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            files = [os.path.join(folder, name) for name in ("in", "out", "err")]
            Path(files[0]).write_text(stdin, "utf-8")
            process = _CONTEXT.Process(target=_run_flask, args=(args, files, environ, self._cwd, self._user))
            process.start()
            process.join(LONGEST)
            if process.is_alive():
                process.kill()
            status = process.exitcode
            process.close()
            assert status is not None, f"{args} did not end within {LONGEST} s"
            return Outcome(status, *(Path(file).read_text("utf-8") for file in files[1:]))

    @contextmanager
    def running(
        self, *args: str, app: str | None, stderr: int | None = None, **config: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command, and kill it at the end of the block. ``stderr`` is that of :mod:`subprocess`."""
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
        return [sys.executable, "-m", "flask", *self.arguments(app, *args)]

    def arguments(self, app: str | None, *args: str) -> list[str]:
        return [*(["--app", app] if app else []), "m2m", *args]

    def environ(self, config: Mapping[str, Any]) -> dict[str, str]:
        settings = {**self._pool.config(), "COGNITO_M2M_ALLOWED_CLIENT_IDS": "*"}
        for key, value in config.items():
            settings[key if key in _FLASK_CACHINGS else f"COGNITO_M2M_{key}"] = value
        variables = {f"FLASK_{key}": json.dumps(each) for key, each in settings.items() if each is not None}
        return {**bare_environ(), **variables}

    def check_has_no_secret(self, text: str, stdin: str, config: Mapping[str, Any]) -> None:
        secrets = [secret for client in self._pool.clients for secret in client.secrets]
        given = config.get("CLIENT_SECRET")
        signature = stdin.strip().rpartition(".")[2]
        for hidden in (*secrets, given, config.get("CACHE_KEY"), signature):
            assert not hidden or hidden == LOCAL_SECRET or hidden not in text
        assert _JWT.search(text) is None


def _run_flask(
    args: list[str], files: list[str], environ: dict[str, str], cwd: Path, user: str | None
) -> None:
    """Become ``python -m flask`` with these arguments, files and variables, in a new process."""
    for number, file in enumerate(files):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", closefd=False) for number, mode in enumerate("rww")
    )
    if user is not None:
        import pwd

        found = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(found.pw_gid)
        os.setuid(found.pw_uid)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    # Resolve addresses only, so no test depends on a network.
    socket.getaddrinfo = partial(socket.getaddrinfo, flags=socket.AI_NUMERICHOST)
    sys.path[:0] = [str(cwd), *environ["PYTHONPATH"].split(os.pathsep)]
    sys.argv[:] = ["flask", *args]
    runpy.run_module("flask", run_name="__main__", alter_sys=True)


def bare_environ() -> dict[str, str]:
    """Return the environment without variables that would change how a command behaves."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("FLASK_", "REQUESTS_", "CURL_"))
    }
    root = str(HERE.parents[1])
    return {**kept, "PYTHONPATH": os.pathsep.join([str(HERE), root]), "PYTHONUTF8": "1"}


def read_announcement(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait until the pool listens, and return the JSON that it then prints."""
    assert process.stdout is not None
    lines = takewhile(lambda line: line != "}\n", process.stdout)
    content: dict[str, Any] = json.loads("".join(lines) + "}")
    return content
