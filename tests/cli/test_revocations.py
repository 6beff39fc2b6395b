"""``flask m2m revoke``, ``unrevoke`` and ``revocations``, and what ``refresh-keys`` adds to the list.

Each command runs in an application of its own, as each process has one. The wait is replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from flask import Flask as Application

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.cli import m2m, revocations
from flask_m2m_cognito.remote.sealed_store import Entry
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.support.headers import bearer

NOTHING = "Nothing is revoked.\n"
OBEYED = "Every process that can reach the cache obeys now."


class Service:
    """Commands and processes of one service, which share a ``FileSystemCache``."""

    def __init__(self, pool: LocalUserPool, folder: Path) -> None:
        self._pool = pool
        self.folder = folder
        self.waits: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def app(self, **settings: Any) -> Application:
        app = Application("shop")
        given = {"ALLOWED_CLIENT_IDS": "*", "REVOCATIONS": True, "CACHE_KEY": "k" * 16, **settings}
        app.config.update(
            self._pool.config(**given), CACHE_TYPE="FileSystemCache", CACHE_DIR=str(self.folder)
        )
        guard = CognitoM2M(app).require_scopes()
        app.get("/")(guard(lambda: ""))
        return app

    def run(self, *args: str, stdin: str | None = None, **settings: Any) -> Result:
        return self.app(**settings).test_cli_runner().invoke(m2m, list(args), input=stdin)

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json").stdout)

    def status(self, token: str) -> int:
        """Return the status of the answer of a process that has just started."""
        return self.app().test_client().get("/", headers=bearer(token)).status_code

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.meanwhile()


@pytest.fixture
def service(pool: LocalUserPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service(pool, tmp_path / "cache")
    monkeypatch.setattr(revocations, "time", SimpleNamespace(sleep=service.wait))
    return service


@pytest.fixture
def clock() -> Iterator[MovedClock]:
    with MovedClock() as clock:
        yield clock


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


# -- an incident ---------------------------------------------------------------------------------


def test_client_is_revoked_until_unrevoke(service: Service, pool: LocalUserPool) -> None:
    token = pool.token()
    ended = service.run("revoke", "shop-client")
    assert (ended.exit_code, service.waits, service.status(token)) == (0, [11], 401)
    assert ended.stdout.splitlines()[:-1] == ["Revoked tokens of shop-client: all.", OBEYED]
    assert ended.stderr == "Waiting 11 s until every process obeys …\n"
    assert service.run("revocations").stdout.startswith("shop-client  all  changed 2")
    ended = service.run("unrevoke", "shop-client")
    assert (ended.exit_code, service.waits, service.status(token)) == (0, [11, 11], 200)
    assert ended.stdout.splitlines()[:-1] == ["Revoked tokens of shop-client: none.", OBEYED]
    assert service.run("revocations").stdout == NOTHING


def test_no_wait_returns_at_once(service: Service) -> None:
    for command in ("revoke", "unrevoke"):
        ended = service.run(command, "shop-client", "--no-wait")
        assert (ended.exit_code, service.waits, ended.stderr) == (0, [], "")
        assert "Every process that can reach the cache obeys within 11 s." in ended.stdout.splitlines()


def test_output_shows_which_processes_share_the_list(service: Service) -> None:
    seals = [
        service.run("revoke", "shop-client", "--no-wait", CACHE_KEY=key * 16).stdout.splitlines()[-1]
        for key in ("a", "a", "b")
    ]
    assert all(line.startswith("seal: ") for line in seals)
    assert len(set(seals[:2])) == 1
    assert len(set(seals)) == 2
    assert f"seal: {service.json('revocations')['seal']} " in service.run("revoke", "x", "--no-wait").stdout


def test_unrevoke_keeps_the_tokens_of_a_leaked_secret_revoked(service: Service, pool: LocalUserPool) -> None:
    now = int(time.time()) - 60
    service.run("revoke", "shop-client")
    ended = service.run("unrevoke", "shop-client", "--keep-before", iso(now))
    assert ended.stdout.startswith(f"Revoked tokens of shop-client: issued before {iso(now)}.\n")
    assert (service.status(pool.token(iat=now - 1)), service.status(pool.token(iat=now))) == (401, 200)
    refused = service.run("unrevoke", "shop-client", "--keep-before", "soon")
    assert (refused.exit_code, "--keep-before" in refused.stderr) == (2, True)


@pytest.mark.parametrize("form", [str, iso, lambda now: iso(now).replace("Z", "+00:00")])
def test_before_revokes_older_tokens(
    service: Service, pool: LocalUserPool, form: Callable[[int], str]
) -> None:
    now = int(time.time()) - 60
    ended = service.run("revoke", "shop-client", "--before", form(now))
    assert ended.stdout.startswith(f"Revoked tokens of shop-client: issued before {iso(now)}.\n")
    assert (service.status(pool.token(iat=now - 1)), service.status(pool.token(iat=now))) == (401, 200)


def test_now_revokes_the_tokens_issued_so_far(service: Service, pool: LocalUserPool) -> None:
    now = int(time.time())
    assert service.run("revoke", "shop-client", "--before", "now").exit_code == 0
    assert (service.status(pool.token(iat=now - 1)), service.status(pool.token(iat=now + 5))) == (401, 200)


def test_several_jti_are_revoked(service: Service, pool: LocalUserPool) -> None:
    ended = service.run("revoke", "shop-client", "--jti", "leaked", "--jti", "also")
    assert ended.stdout.startswith('Revoked tokens of shop-client: jti "also", jti "leaked".\n')
    assert [service.status(pool.token(jti=jti)) for jti in ("leaked", "also", "other")] == [401, 401, 200]


def test_calls_add_up_and_the_list_shows_all(service: Service) -> None:
    service.run("revoke", "shop-client", "--jti", "leaked")
    service.run("revoke", "shop-client", "--before", "1764525600")
    service.run("revoke", "billing")
    lines = service.run("revocations").stdout.splitlines()
    assert [" ".join(line.partition(" changed ")[0].split()) for line in lines] == [
        "billing all",
        'shop-client issued before 2025-11-30T18:00:00Z, jti "leaked"',
    ]


def test_explain_names_the_revocation(service: Service, pool: LocalUserPool) -> None:
    service.run("revoke", "shop-client")
    ended = service.run("explain", stdin=pool.token(jti="leaked"))
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("failed"))
    assert line.split()[1] == "revocation"
    assert 'jti "leaked"' in line


def test_explain_says_that_no_list_was_read(service: Service, pool: LocalUserPool) -> None:
    service.folder.write_text("a file in place of the folder")
    ended = service.run("explain", stdin=pool.token())
    (line,) = (line for line in ended.stdout.splitlines() if " revocation " in line)
    assert "the list of revocations could not be read: " in line
    assert service.folder.name in line


# -- JSON ----------------------------------------------------------------------------------------


def test_json_has_every_field(service: Service) -> None:
    row = service.json("revoke", "shop-client", "--jti", "a", "--before", "1764525600")
    changed_at = row.pop("changed_at")
    assert abs(datetime.fromisoformat(changed_at.replace("Z", "+00:00")).timestamp() - time.time()) < 60
    kept = {
        "client_id": "shop-client",
        "every_token": False,
        "before": "2025-11-30T18:00:00Z",
        "jti": ["a"],
    }
    seal = row.pop("seal")
    assert row == {**kept, "confirmed": True, "problem": None}
    assert service.json("revocations") == {"revocations": [{**kept, "changed_at": changed_at}], "seal": seal}
    row = service.json("unrevoke", "shop-client", "--no-wait")
    assert (row["every_token"], row["before"], row["jti"], row["confirmed"]) == (False, None, [], None)
    assert service.json("revocations") == {"revocations": [], "seal": seal}


# -- confirmation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        pytest.param(
            lambda service: service.app().extensions["cognito_m2m"].revoke("shop-client", jti="a"),
            "Another command has changed this client meanwhile.",
            id="another change",
        ),
        pytest.param(
            lambda service: shutil.rmtree(service.folder), "the cache has lost the list", id="an empty cache"
        ),
    ],
)
@pytest.mark.parametrize("command", ["revoke", "unrevoke"])
def test_lost_change_is_a_failure(
    service: Service, command: str, meanwhile: Callable[[Service], object], words: str
) -> None:
    if command == "unrevoke":
        service.run("revoke", "shop-client")
    service.meanwhile = lambda: meanwhile(service)
    ended = service.run(command, "shop-client")
    assert (ended.exit_code, words in ended.stdout, OBEYED in ended.stdout) == (1, True, False)


def test_cache_that_fails_during_the_wait_is_a_failure(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cachelib import FileSystemCache

    def fail(*_: Any) -> None:
        raise ConnectionError

    service.meanwhile = lambda: monkeypatch.setattr(FileSystemCache, "get", fail)
    ended = service.run("revoke", "shop-client", "--json")
    row = json.loads(ended.stdout)
    assert (ended.exit_code, row["confirmed"]) == (1, False)
    assert "because the cache is: ConnectionError" in row["problem"]
    assert "Run the command again when the cache is available." in row["problem"]


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--before", "soon"], '"soon" is not a time. Use ISO 8601 with an offset', id="garbage"),
        pytest.param(["--before", ""], '"" is not a time.', id="nothing"),
        pytest.param(["--before", "2026-01-01T00:00:00"], "before must have a UTC offset", id="naive"),
        pytest.param(["--before", "2026-01-01"], "before must have a UTC offset", id="a day"),
        pytest.param(["--before", "2096-10-02T00:00:00Z"], "got 2096-10-02T00:00:00+00:00", id="the future"),
        pytest.param(["--before", "1764525600000"], "A number is in seconds", id="milliseconds"),
        pytest.param(["--before", "nan"], "in the past, got nan", id="not a number"),
        pytest.param(["--jti", ""], "jti must be 1 to 256 printable characters", id="an empty jti"),
    ],
)
def test_invalid_option_revokes_nothing(service: Service, options: list[str], words: str) -> None:
    ended = service.run("revoke", "shop-client", *options)
    assert (ended.exit_code in (1, 2), ended.stdout) == (True, "")
    assert words in ended.stderr
    assert service.run("revocations").stdout == NOTHING


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can be another user")
@pytest.mark.parametrize("command", ["revoke", "unrevoke"])
def test_root_writes_no_list_that_the_service_cannot_read(service: Service, command: str) -> None:
    service.folder.mkdir()
    os.chown(service.folder, 65534, 65534)
    ended = service.run(command, "shop-client")
    assert (ended.exit_code, ended.stdout, list(service.folder.iterdir())) == (1, "", [])
    assert f"Nothing was changed: the folder {service.folder} belongs to " in ended.stderr
    assert "Run this command as " in ended.stderr


def test_unknown_client_is_pointed_out(service: Service) -> None:
    ended = service.run("revoke", "billing", ALLOWED_CLIENT_IDS=["shop-client"])
    assert ended.exit_code == 0
    assert "this id is not in COGNITO_M2M_ALLOWED_CLIENT_IDS" in ended.stderr
    ended = service.run("revoke", "shop-client", ALLOWED_CLIENT_IDS=["shop-client"])
    assert "COGNITO_M2M_ALLOWED_CLIENT_IDS" not in ended.stderr


def test_unrevoke_of_an_unknown_client_is_an_error(service: Service) -> None:
    ended = service.run("unrevoke", "shop-client")
    assert (ended.exit_code, ended.stdout, service.waits) == (1, "", [])
    assert ended.stderr == "Error: No token of the client 'shop-client' is revoked.\n"


COMMANDS = [["revoke", "shop-client"], ["unrevoke", "shop-client"], ["revocations"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_revocations_that_are_off_are_an_error(service: Service, command: list[str]) -> None:
    ended = service.run(*command, REVOCATIONS=False)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: COGNITO_M2M_REVOCATIONS is off. Set it to True,")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_list_of_a_later_version_is_an_error(service: Service, command: list[str]) -> None:
    store = service.app().extensions["cognito_m2m"]._store
    store.write("revocations", "revocations", Entry({"clients": []}, 0.0))
    ended = service.run(*command)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: The list of revocations cannot be used: ")


# -- refresh-keys --------------------------------------------------------------------------------


def test_refreshed_keys_are_announced(service: Service, pool: LocalUserPool, clock: MovedClock) -> None:
    token, client = pool.token(), service.app().test_client()
    assert client.get("/", headers=bearer(token)).status_code == 200
    pool.rotate_key(keep_old=False)
    ended = service.run("refresh-keys")
    assert ended.exit_code == 0
    assert ended.stdout.endswith("Running processes use these keys within 11 s.\n")
    clock.move(11)
    assert client.get("/", headers=bearer(token)).status_code == 401


def test_keys_are_downloaded_by_a_process_that_has_some(service: Service, pool: LocalUserPool) -> None:
    app = service.app()
    for kept in (True, False):
        assert app.test_client().get("/", headers=bearer(pool.token())).status_code == 200
        key = pool.rotate_key(keep_old=kept)
        assert key in app.test_cli_runner().invoke(m2m, ["refresh-keys"]).stdout


def test_failed_download_announces_nothing(service: Service, pool: LocalUserPool) -> None:
    with pool.fail("jwks", status=503):
        ended = service.run("refresh-keys")
    assert ended.exit_code == 1
    assert "Running processes" not in ended.stdout


def test_keys_that_cannot_be_announced_are_a_failure(service: Service) -> None:
    """Another command holds the lease of the list for longer than a change may take."""
    assert service.app().extensions["cognito_m2m"]._store.take_lease("revocations", 60)
    for option in ([], ["--json"]):
        ended = service.run("refresh-keys", *option, REFRESH_DEADLINE=0.5)
        assert ended.exit_code == 1
        assert "Running processes keep their keys until these are no longer fresh. Another " in ended.stdout
