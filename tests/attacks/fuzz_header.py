"""Coverage-guided fuzzing of the Authorization header, with atheris (``pip install atheris``).

``python tests/attacks/fuzz_header.py --seconds 600`` prints libFuzzer's figures, and ends with an error
and a file ``crash-…`` at the first header for which ``oracle.assert_held`` does not hold.
"""

from __future__ import annotations

import argparse
import json
import logging
import pathlib
import sys

import atheris

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["flask_m2m_cognito"]):
    import flask_m2m_cognito  # noqa: F401

from tests.attacks.crooked_claims import ATTACKS as CLAIMS
from tests.attacks.crooked_headers import ATTACKS as HEADERS
from tests.attacks.crooked_texts import ATTACKS as TEXTS
from tests.attacks.forged_signatures import ATTACKS as SIGNATURES
from tests.attacks.forging import b64, by_rsa, good_header
from tests.attacks.oracle import assert_held
from tests.attacks.stage import Scene, Service, bearer, steady_service

WORDS = [
    "Bearer ", "bearer", ",", ".", "..", "=", "eyJ", "e30", '{"alg":"RS256","kid":"', '"alg"', '"none"',
    '"kid"', '"crit"', '"b64"', '"iss"', '"sub"', '"exp"', '"iat"', '"nbf"', '"token_use"', '"access"',
    '"client_id"', '"scope"', '"username"', "orders/read", "true", "null", "NaN", "Infinity", "1e400", "[[[[",
    '{"":', "\\ud800",
]  # fmt: skip


ATTACKS = [*SIGNATURES, *TEXTS, *CLAIMS, *HEADERS]


class Fuzzed:
    """Turns bytes into headers of four kinds, so that not every input ends at the first check."""

    def __init__(self, scene: Scene, service: Service) -> None:
        self._scene = scene
        self._service = service

    def __call__(self, data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        kind = provider.ConsumeIntInRange(0, 3)
        rest = provider.ConsumeBytes(8200)
        header = (self._raw, self._token, self._payload, self._edited)[kind](rest)
        assert_held(self._service.ask(header), header, self._scene)

    def _raw(self, content: bytes) -> str:
        return content.decode("latin-1")

    def _token(self, content: bytes) -> str:
        """Two texts, cut at a line end, as header and payload of a token that is not signed."""
        header, _, payload = content.partition(b"\n")
        return bearer(f"{b64(header)}.{b64(payload)}.AAAA")

    def _payload(self, content: bytes) -> str:
        """Claims of anything under a good signature."""
        return bearer(by_rsa(self._scene, good_header(self._scene), content))

    def _edited(self, content: bytes) -> str:
        """More claims, or the same once more, under a good signature."""
        usual = json.dumps(self._scene.claims()).encode()
        return bearer(by_rsa(self._scene, good_header(self._scene), usual[:-1] + b"," + content + b"}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("corpus", nargs="*", help="folders of inputs, the first of which is added to")
    chosen = parser.parse_args()
    logging.getLogger("flask_m2m_cognito").setLevel(logging.CRITICAL)
    words = pathlib.Path("header.dict")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
    scene = Scene()
    limits = [f"-max_total_time={chosen.seconds}", "-max_len=8192", "-timeout=20", f"-dict={words}"]
    atheris.Setup(
        [sys.argv[0], *limits, *(chosen.corpus or ["corpus"]), str(_seeds(scene))],
        Fuzzed(scene, steady_service(scene)),
    )
    atheris.Fuzz()


def _seeds(scene: Scene) -> pathlib.Path:
    """A folder with every attack that has a name, and with good claims. The last byte tells the kind."""
    folder = pathlib.Path("seeds")
    folder.mkdir(exist_ok=True)
    pathlib.Path("corpus").mkdir(exist_ok=True)
    for number, attack in enumerate(ATTACKS):
        header = attack.make(scene).encode("latin-1", "replace")
        if len(header) < 8192:
            (folder / f"attack-{number}").write_bytes(header + b"\0")
    claims = json.dumps(scene.claims()).encode()
    (folder / "claims").write_bytes(claims + b"\2")
    (folder / "token").write_bytes(json.dumps(good_header(scene)).encode() + b"\n" + claims + b"\1")
    (folder / "more").write_bytes(b'"x":1\3')
    return folder


def _escaped(word: str) -> str:
    """As libFuzzer's dictionaries want it."""
    return "".join(character if character.isalnum() else f"\\x{ord(character):02x}" for character in word)


if __name__ == "__main__":
    main()
