"""A client's secret: which one is sent, when a callable is called, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flask_m2m_cognito.exceptions import CognitoTokenRequestError
from flask_m2m_cognito.outbound.client_secret import LONGEST_CALL, ClientSecret, SecretText
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.remote.clock import Deadline
from flask_m2m_cognito.settings.objects import read_secret_file
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks
from tests.support.threads import LONG, threads


class Cognito:
    """Accepts some secrets, and records those that it received."""

    def __init__(self, *accepted: str) -> None:
        self.accepted = accepted
        self.sent: list[str] = []

    def request(self, secret: SecretText) -> str:
        self.sent.append(secret.reveal())
        if secret.reveal() not in self.accepted:
            raise CognitoTokenRequestError("refused", error_code="invalid_client")
        return "token"


class Vault:
    """Returns its answers in turn, then repeats the last one, and counts the calls."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        answer = self._answers[min(self.calls, len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def refusal_of(
    secret: ClientSecret, request: Callable[[SecretText], str], seconds: float = LONG
) -> CognitoTokenRequestError:
    with pytest.raises(CognitoTokenRequestError) as caught:
        secret.try_with(request, Deadline(seconds))
    return caught.value


@pytest.mark.parametrize(
    ("secrets", "accepted", "outcomes", "sent"),
    [
        pytest.param(["old", "new"], "new", ["token"] * 2, ["old", "new", "new"], id="next one, then first"),
        pytest.param(["old", "new"], "", ["invalid_client"], ["old", "new"], id="none is accepted"),
        pytest.param(("good",), "good", ["token"] * 3, ["good"] * 3, id="callable"),
        pytest.param((["old", "new"],), "new", ["token"] * 2, ["old", "new", "new"], id="it returns two"),
        pytest.param(("old", "new"), "new", ["token"], ["old", "new"], id="it returns a newer one"),
        pytest.param(("old",), "new", ["invalid_client"], ["old"], id="it returns the same again"),
        pytest.param(
            ("a", "b", "c"), "c", ["invalid_client", "token"], ["a", "b", "b", "c"], id="once in a call"
        ),
        pytest.param((ConnectionError(), "good"), "good", [None, "token"], ["good"], id="it fails"),
    ],
)
def test_secrets_are_tried_in_turn(
    secrets: Any, accepted: str, outcomes: list[str | None], sent: list[str]
) -> None:
    cognito, secret = Cognito(accepted), secret_of(secrets)
    assert [outcome_of(secret, cognito.request) for _ in outcomes] == outcomes
    assert cognito.sent == sent


def secret_of(given: Any) -> ClientSecret:
    """Return a ClientSecret with a list, or with a callable that returns the items of a tuple in turn."""
    return ClientSecret(Vault(*given) if isinstance(given, tuple) else given)


def outcome_of(secret: ClientSecret, request: Callable[[SecretText], str]) -> str | None:
    try:
        return secret.try_with(request, Deadline(LONG))
    except CognitoTokenRequestError as error:
        return error.error_code


def test_callable_is_called_once_while_its_secret_is_accepted() -> None:
    vault, cognito = Vault(["old", "new"]), Cognito("new")
    secret = ClientSecret(vault)
    assert vault.calls == 0
    assert [outcome_of(secret, cognito.request) for _ in range(3)] == ["token"] * 3
    assert vault.calls == 1


def test_rejected_secrets_are_kept() -> None:
    cognito, secret = Cognito("new"), ClientSecret(["old", "new"])
    secret.try_with(cognito.request, Deadline(LONG))
    cognito.accepted = ("old",)
    assert secret.try_with(cognito.request, Deadline(LONG)) == "token"


@pytest.mark.parametrize("secrets", [["old", "new"], ("old", "new")], ids=["several", "callable"])
def test_other_error_tries_no_other_secret(secrets: Any) -> None:
    sent: list[str] = []

    def request(text: SecretText) -> str:
        sent.append(text.reveal())
        raise CognitoTokenRequestError("no", error_code="invalid_scope")

    assert refusal_of(secret_of(secrets), request).error_code == "invalid_scope"
    assert sent == ["old"]


class TestCallable:
    @pytest.mark.parametrize(
        ("answer", "shown"),
        [
            (ConnectionError("hunter2"), "ConnectionError in outbound/test_client_secret.py"),
            (None, "got None."),
            (b"hunter2", "got a bytes."),
            ({"client_secret": "hunter2"}, "got a dict."),
            (["hunter2", 17], "got a list with an int."),
            (("hunter2", None), "got a list with None."),
            ("hunter2\udc80", "that can be encoded as UTF-8."),
            ("", "The client secret is empty."),
            ([], "The client secret is empty."),
        ],
    )
    def test_callable_without_a_secret_fails_and_sends_nothing(self, answer: Any, shown: str) -> None:
        cognito = Cognito("hunter2")
        error = refusal_of(ClientSecret(Vault(answer)), cognito.request)
        assert shown in str(error)
        assert "hunter2" not in str(error)
        assert error.error_code is error.__cause__ is error.__context__ is None
        assert cognito.sent == []

    def test_error_names_exception_type_and_place(self) -> None:
        vault = Vault({"hunter2": 1})
        error = refusal_of(ClientSecret(lambda: vault()["secret"]), Cognito("good").request)
        line = self._line_of('ClientSecret(lambda: vault()["secret"])')
        assert str(error).endswith(f": KeyError in outbound/test_client_secret.py, line {line}.")

    @staticmethod
    def _line_of(code: str) -> int:
        lines = Path(__file__).read_text("utf-8").splitlines()
        return next(number for number, line in enumerate(lines, 1) if code in line)

    @pytest.mark.parametrize(
        ("response", "shown"),
        [
            pytest.param({"Error": {"Code": "AccessDeniedException"}}, "ClientError (Acc", id="botocore's"),
            pytest.param({"Error": {"Code": "hunter2 is not JSON"}}, "ClientError in", id="several words"),
            pytest.param({"Error": {"Code": "H" * 51}}, "ClientError in", id="too long"),
            pytest.param({"Error": "hunter2"}, "ClientError in", id="another shape"),
            pytest.param(17, "ClientError in", id="of another library"),
        ],
    )
    def test_error_names_the_code_of_aws(self, response: Any, shown: str) -> None:
        class ClientError(Exception):
            def __init__(self, response: Any) -> None:
                super().__init__("hunter2")
                self.response = response

        error = refusal_of(ClientSecret(Vault(ClientError(response))), Cognito("good").request)
        assert shown in str(error)
        assert "hunter2" not in str(error)

    def test_error_of_a_secret_file_names_the_cause(self, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text("hunter2")
        secret = read_secret_file(str(file))
        file.unlink()
        error = refusal_of(ClientSecret(secret), Cognito("good").request)
        assert "No such file" in str(error)

    def test_failed_second_call_keeps_the_known_secret(self) -> None:
        vault, cognito = Vault("good", ConnectionError()), Cognito("good")
        secret = ClientSecret(vault)
        secret.try_with(cognito.request, Deadline(LONG))
        cognito.accepted = ()
        refusal_of(secret, cognito.request)
        cognito.accepted = ("good",)
        assert secret.try_with(cognito.request, Deadline(LONG)) == "token"
        assert vault.calls == 2

    def test_concurrent_first_uses_call_it_once(self) -> None:
        vault, cognito = Vault("good"), Cognito("good")
        start, another_is_inside = threading.Barrier(8), threading.Barrier(2)

        def slow_vault() -> str:
            answer: str = vault()
            with suppress(threading.BrokenBarrierError):
                another_is_inside.wait(0.1)  # a chance for another thread to enter
            return answer

        secret = ClientSecret(slow_vault)

        def call(_: int) -> str:
            start.wait(5)
            return secret.try_with(cognito.request, Deadline(LONG))

        with ThreadPoolExecutor(8) as callers:
            assert list(callers.map(call, range(8))) == ["token"] * 8
        assert vault.calls == 1

    def test_eight_rejected_threads_call_it_again_once(self) -> None:
        vault, cognito = Vault("old", "new"), Cognito("old")
        secret, all_were_refused = ClientSecret(vault), threading.Barrier(8)
        secret.try_with(cognito.request, Deadline(LONG))
        cognito.accepted = ("new",)

        def request(text: SecretText) -> str:
            if text.reveal() == "old":
                all_were_refused.wait(5)
            return cognito.request(text)

        with ThreadPoolExecutor(8) as callers:
            tokens = callers.map(lambda _: secret.try_with(request, Deadline(LONG)), range(8))
            assert list(tokens) == ["token"] * 8
        assert vault.calls == 2

    def test_callable_runs_under_no_lock(self) -> None:
        def vault() -> str:
            with threads() as others:
                others(lambda: refusal_of(secret, cognito.request, seconds=0.05))
            (refusal,) = others.outcomes
            return "good" if "not returned yet" in str(refusal) else "bad"

        cognito = Cognito("good")
        secret = ClientSecret(vault)
        assert secret.try_with(cognito.request, Deadline(LONG)) == "token"

    @pytest.mark.parametrize("ended_by", [SystemExit, GeneratorExit])
    def test_callable_that_is_aborted_is_called_again(self, ended_by: type[BaseException]) -> None:
        calls = []

        def vault() -> str:
            calls.append(1)
            if len(calls) == 1:
                raise ended_by("the secret")
            return "good"

        secret, cognito = ClientSecret(vault), Cognito("good")
        with pytest.raises(ended_by):
            secret.try_with(cognito.request, Deadline(LONG))
        assert secret.try_with(cognito.request, Deadline(0.05)) == "token"

    def test_callable_that_never_returns_is_called_again(self) -> None:
        never, begun, clocks, calls = threading.Event(), threading.Event(), Clocks(), []

        def vault() -> str:
            calls.append(1)
            if len(calls) == 1:
                begun.set()
                assert never.wait(LONG)
                return "old"
            return "good"

        cognito = Cognito("good")
        secret = ClientSecret(vault, clocks.clock)
        with threads() as left_behind:
            left_behind(lambda: secret.try_with(Cognito("old", "good").request, Deadline(LONG)))
            assert begun.wait(LONG)
            clocks.advance(LONGEST_CALL - 1)
            refusal_of(secret, cognito.request, seconds=0.05)
            clocks.advance(1)
            assert secret.try_with(cognito.request, Deadline(LONG)) == "token"
            never.set()
        # The late result does not replace the newer one.
        assert secret.try_with(cognito.request, Deadline(LONG)) == "token"
        assert (len(calls), cognito.sent) == (2, ["good", "good"])


class TestSecretObject:
    @pytest.mark.parametrize("secret", ["hidden", ["hidden", "hidden-2"], lambda: "hidden"], ids=type)
    def test_no_repr_shows_the_secret(self, secret: Any) -> None:
        kept = ClientSecret(secret)
        kept.try_with(repr, Deadline(LONG))
        assert "hidden" not in repr(kept)
        assert "hidden" not in "".join(
            kept.try_with(lambda text: [repr(text), str(text), f"{text}"], Deadline(LONG))
        )

    @pytest.mark.parametrize("secret", [b"bytes", 17, None, ["a", None]], ids=repr)
    def test_must_be_a_string_or_strings(self, secret: Any) -> None:
        with pytest.raises(TypeError):
            ClientSecret(secret)

    @pytest.mark.parametrize("secret", ["", [], [""]], ids=["empty", "none", "one that is empty"])
    def test_empty_secret_is_not_sent(self, secret: str | Sequence[str]) -> None:
        cognito = Cognito("")
        refusal_of(ClientSecret(secret), cognito.request)
        assert cognito.sent == []


class TestAtCognito:
    def test_secret_may_be_replaced(self) -> None:
        with LocalUserPool() as pool:
            client = CognitoM2MClient(pool.token_url, "local-client", "wrong")
            client.client_secret = pool.client().secret
            assert client.client_secret == pool.client().secret
            assert client.fetch_token("inventory/read")
