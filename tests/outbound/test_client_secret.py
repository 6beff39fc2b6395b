"""A client's secret: which one is sent, when a callable is asked, and how often."""

from __future__ import annotations

import os
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
from tests.support.forks import in_a_child
from tests.support.threads import LONG, threads


class Cognito:
    """Takes some secrets, and remembers what it was sent."""

    def __init__(self, *taken: str) -> None:
        self.taken = taken
        self.sent: list[str] = []

    def request(self, secret: SecretText) -> str:
        self.sent.append(secret.reveal())
        if secret.reveal() not in self.taken:
            raise CognitoTokenRequestError("refused", error_code="invalid_client")
        return "token"


class Vault:
    """Gives its answers in turn, the last one for ever, and counts."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers
        self.asked = 0

    def __call__(self) -> Any:
        self.asked += 1
        answer = self._answers[min(self.asked, len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def refusal_of(
    secret: ClientSecret, request: Callable[[SecretText], str], seconds: float = LONG
) -> CognitoTokenRequestError:
    with pytest.raises(CognitoTokenRequestError) as caught:
        secret.try_with(request, Deadline(seconds))
    return caught.value


class TestSeveral:
    def test_next_is_tried_on_invalid_client(self) -> None:
        cognito = Cognito("new")
        assert ClientSecret(["old", "new"]).try_with(cognito.request, Deadline(LONG)) == "token"
        assert cognito.sent == ["old", "new"]

    def test_one_that_was_taken_is_tried_first_from_then_on(self) -> None:
        cognito, secret = Cognito("new"), ClientSecret(["old", "new"])
        secret.try_with(cognito.request, Deadline(LONG))
        secret.try_with(cognito.request, Deadline(LONG))
        assert cognito.sent == ["old", "new", "new"]

    def test_others_stay_known(self) -> None:
        cognito, secret = Cognito("new"), ClientSecret(["old", "new"])
        secret.try_with(cognito.request, Deadline(LONG))
        cognito.taken = ("old",)
        assert secret.try_with(cognito.request, Deadline(LONG)) == "token"

    def test_when_none_is_taken_each_was_tried_once(self) -> None:
        cognito = Cognito()
        assert refusal_of(ClientSecret(["old", "new"]), cognito.request).error_code == "invalid_client"
        assert cognito.sent == ["old", "new"]

    def test_next_is_not_tried_on_another_error(self) -> None:
        sent: list[str] = []

        def request(secret: SecretText) -> str:
            sent.append(secret.reveal())
            raise CognitoTokenRequestError("no", error_code="invalid_scope")

        assert refusal_of(ClientSecret(["old", "new"]), request).error_code == "invalid_scope"
        assert sent == ["old"]


class TestCallable:
    def test_is_asked_at_first_use_and_not_before(self) -> None:
        vault = Vault("good")
        secret = ClientSecret(vault)
        assert vault.asked == 0
        secret.try_with(Cognito("good").request, Deadline(LONG))
        assert vault.asked == 1

    def test_is_not_asked_again_while_its_secret_is_taken(self) -> None:
        vault, cognito = Vault("good"), Cognito("good")
        secret = ClientSecret(vault)
        for _ in range(3):
            secret.try_with(cognito.request, Deadline(LONG))
        assert vault.asked == 1

    def test_is_asked_again_after_invalid_client_within_the_call(self) -> None:
        vault, cognito = Vault("old", "new"), Cognito("new")
        assert ClientSecret(vault).try_with(cognito.request, Deadline(LONG)) == "token"
        assert (vault.asked, cognito.sent) == (2, ["old", "new"])

    def test_is_asked_again_only_once_within_the_call(self) -> None:
        vault, cognito = Vault("old", "newer", "newest"), Cognito("newest")
        assert refusal_of(ClientSecret(vault), cognito.request).error_code == "invalid_client"
        assert (vault.asked, cognito.sent) == (2, ["old", "newer"])

    def test_same_answer_again_is_not_tried_again(self) -> None:
        vault, cognito = Vault("old"), Cognito("new")
        assert refusal_of(ClientSecret(vault), cognito.request).error_code == "invalid_client"
        assert (vault.asked, cognito.sent) == (2, ["old"])

    def test_may_give_several(self) -> None:
        cognito = Cognito("new")
        assert ClientSecret(Vault(["old", "new"])).try_with(cognito.request, Deadline(LONG)) == "token"
        assert cognito.sent == ["old", "new"]

    def test_is_not_asked_again_on_another_error(self) -> None:
        vault = Vault("good")

        def request(secret: SecretText) -> str:
            raise CognitoTokenRequestError("no", status_code=500)

        assert refusal_of(ClientSecret(vault), request).status_code == 500
        assert vault.asked == 1

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(ConnectionError("secret-of-the-vault"), id="raises"),
            pytest.param(None, id="gives None"),
            pytest.param(b"secret-of-the-vault", id="gives bytes"),
            pytest.param(["a", 1], id="gives a list with a number"),
            pytest.param("", id="gives nothing"),
            pytest.param([], id="gives an empty list"),
        ],
    )
    def test_that_gives_no_secret_is_a_failed_request_that_sends_nothing(self, answer: Any) -> None:
        cognito = Cognito("good")
        error = refusal_of(ClientSecret(Vault(answer)), cognito.request)
        assert error.error_code is None
        assert "secret-of-the-vault" not in str(error)
        assert cognito.sent == []

    def test_error_names_type_and_place_of_what_was_raised(self) -> None:
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
            pytest.param({"Error": {"Code": "hunter2 is not JSON"}}, "ClientError in", id="no plain word"),
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

    @pytest.mark.parametrize(
        ("answer", "shown"),
        [
            ({"client_secret": "hunter2"}, "got a dict."),
            (b"hunter2", "got a bytes."),
            (None, "got None."),
            (["hunter2", 17], "got a list with an int."),
            (("hunter2", None), "got a list with None."),
        ],
    )
    def test_error_names_the_type_of_a_wrong_answer(self, answer: Any, shown: str) -> None:
        error = refusal_of(ClientSecret(Vault(answer)), Cognito("good").request)
        assert str(error).endswith(shown)
        assert "hunter2" not in str(error)

    def test_error_of_a_secret_file_says_what_is_wrong(self, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text("hunter2")
        secret = read_secret_file(str(file))
        file.unlink()
        error = refusal_of(ClientSecret(secret), Cognito("good").request)
        assert "No such file" in str(error)

    def test_after_a_failed_answer_it_is_asked_again_by_the_next_call(self) -> None:
        secret = ClientSecret(Vault(ConnectionError(), "good"))
        refusal_of(secret, Cognito("good").request)
        assert secret.try_with(Cognito("good").request, Deadline(LONG)) == "token"

    def test_failure_to_ask_again_leaves_what_was_known(self) -> None:
        vault, cognito = Vault("good", ConnectionError()), Cognito("good")
        secret = ClientSecret(vault)
        secret.try_with(cognito.request, Deadline(LONG))
        cognito.taken = ()
        refusal_of(secret, cognito.request)
        cognito.taken = ("good",)
        assert secret.try_with(cognito.request, Deadline(LONG)) == "token"
        assert vault.asked == 2

    def test_eight_threads_at_first_use_ask_it_once(self) -> None:
        vault, cognito = Vault("good"), Cognito("good")
        start, another_is_in = threading.Barrier(8), threading.Barrier(2)

        def slow_vault() -> str:
            answer: str = vault()
            with suppress(threading.BrokenBarrierError):
                another_is_in.wait(0.1)  # the chance for one more to come in
            return answer

        secret = ClientSecret(slow_vault)

        def call(_: int) -> str:
            start.wait(5)
            return secret.try_with(cognito.request, Deadline(LONG))

        with ThreadPoolExecutor(8) as callers:
            assert list(callers.map(call, range(8))) == ["token"] * 8
        assert vault.asked == 1

    def test_eight_threads_that_were_refused_at_once_ask_it_again_once(self) -> None:
        vault, cognito = Vault("old", "new"), Cognito("old")
        secret, all_were_refused = ClientSecret(vault), threading.Barrier(8)
        secret.try_with(cognito.request, Deadline(LONG))
        cognito.taken = ("new",)

        def request(text: SecretText) -> str:
            if text.reveal() == "old":
                all_were_refused.wait(5)
            return cognito.request(text)

        with ThreadPoolExecutor(8) as callers:
            tokens = callers.map(lambda _: secret.try_with(request, Deadline(LONG)), range(8))
            assert list(tokens) == ["token"] * 8
        assert vault.asked == 2

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
        # What it returned at last does not replace the newer answer.
        assert secret.try_with(cognito.request, Deadline(LONG)) == "token"
        assert (len(calls), cognito.sent) == (2, ["good", "good"])

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_forked_child_does_not_wait_for_a_thread_that_asks_in_the_parent(self) -> None:
        is_asked, may_answer = threading.Event(), threading.Event()

        def vault() -> str:
            if threading.current_thread() is not threading.main_thread():
                is_asked.set()
                may_answer.wait(5)
            return "good"

        secret = ClientSecret(vault)
        with ThreadPoolExecutor(1) as callers:
            call = callers.submit(secret.try_with, Cognito("good").request, Deadline(LONG))
            assert is_asked.wait(5)
            assert in_a_child(lambda: secret.try_with(Cognito("good").request, Deadline(LONG)) == "token")
            may_answer.set()
            assert call.result(5) == "token"

    def test_two_secrets_of_which_the_second_is_taken_do_not_make_it_asked_again(self) -> None:
        vault, cognito = Vault(["old", "new"]), Cognito("new")
        secret = ClientSecret(vault)
        for _ in range(3):
            secret.try_with(cognito.request, Deadline(LONG))
        assert (vault.asked, cognito.sent) == (1, ["old", "new", "new", "new"])


class TestSecretThatCannotBeEncoded:
    def test_error_does_not_hold_it(self) -> None:
        refusal = refusal_of(ClientSecret(lambda: "top-secret\udc80"), Cognito().request)
        assert "text that can be encoded" in str(refusal)
        assert refusal.__cause__ is refusal.__context__ is None


class TestWhatItIs:
    @pytest.mark.parametrize("secret", ["hidden", ["hidden", "hidden-2"], lambda: "hidden"], ids=type)
    def test_shows_in_no_repr(self, secret: Any) -> None:
        kept = ClientSecret(secret)
        kept.try_with(repr, Deadline(LONG))
        assert "hidden" not in repr(kept)
        assert "hidden" not in "".join(
            kept.try_with(lambda text: [repr(text), str(text), f"{text}"], Deadline(LONG))
        )

    @pytest.mark.parametrize("secret", [b"bytes", 17, None, ["a", None]], ids=repr)
    def test_must_be_text_or_texts(self, secret: Any) -> None:
        with pytest.raises(TypeError):
            ClientSecret(secret)

    @pytest.mark.parametrize("secret", ["", [], [""]], ids=["empty", "none", "one that is empty"])
    def test_empty_one_is_not_sent(self, secret: str | Sequence[str]) -> None:
        cognito = Cognito("")
        refusal_of(ClientSecret(secret), cognito.request)
        assert cognito.sent == []


class TestAtCognito:
    def test_wrong_secret_is_invalid_client(self) -> None:
        with LocalUserPool() as pool:
            client = CognitoM2MClient(pool.token_url, "local-client", "wrong")
            with pytest.raises(CognitoTokenRequestError) as caught:
                client.fetch_token("inventory/read")
        assert (caught.value.status_code, caught.value.error_code) == (400, "invalid_client")

    def test_rotation_costs_one_more_request(self) -> None:
        with LocalUserPool() as pool:
            vault = Vault(pool.client().secret, "the new secret")
            client = CognitoM2MClient(pool.token_url, "local-client", vault)
            client.fetch_token("inventory/read")
            pool.set_secrets("local-client", "the new secret")
            for _ in range(2):
                assert client.fetch_token("inventory/read").access_token
            sent = [request.form["client_secret"] == "the new secret" for request in pool.requests]
        assert sent == [False, False, True, True]
        assert vault.asked == 2

    def test_secret_may_be_replaced(self) -> None:
        with LocalUserPool() as pool:
            client = CognitoM2MClient(pool.token_url, "local-client", "wrong")
            client.client_secret = pool.client().secret
            assert client.client_secret == pool.client().secret
            assert client.fetch_token("inventory/read")
