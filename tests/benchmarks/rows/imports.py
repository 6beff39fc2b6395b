"""The cost of importing the library, compared with importing Flask."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict

from tests.benchmarks.measuring import Times, ratios
from tests.benchmarks.results import (
    LIMIT,
    OURS,
    Figure,
    RowResult,
    count_figure,
    ratio_figure,
    spread_of,
    spreads,
)
from tests.benchmarks.row import Effort, Row

_IMPORTED = {OURS: "flask_m2m_cognito", LIMIT: "flask"}

_TIME_IT = """
import time, sys, json
begun = time.process_time()
import {module}
seconds = time.process_time() - begun
late = [name for name in ("requests", "cryptography.fernet", "jwt", "flask_caching") if name in sys.modules]
print(json.dumps([seconds, late]))
"""

_RECEIVING = """
import sys, json
from flask import Flask
from flask_m2m_cognito import CognitoM2M
app = Flask("receiving")
app.config.update(COGNITO_M2M_USER_POOL_ID="us-west-2_AbCdEfGhI", COGNITO_M2M_ALLOWED_CLIENT_IDS="*",
                  COGNITO_M2M_CACHE_KEY="a key of sixteen bytes or more")
CognitoM2M(app)
print(json.dumps([0.0, [name for name in ("requests", "cryptography.fernet") if name in sys.modules]]))
"""


def _measure(effort: Effort) -> RowResult:
    times: Times = defaultdict(list)
    loaded: dict[str, list[str]] = {}
    for number in range(effort.pick(3, 31)):
        for name in random.sample(sorted(_IMPORTED), len(_IMPORTED)):
            # The better of two runs, unless quick: a new process is sensitive to the machine's load.
            runs = [_run(_TIME_IT.format(module=_IMPORTED[name])) for _ in range(effort.pick(1, 2))]
            if number:
                times[name].append(min(seconds for seconds, _ in runs))
            loaded[name] = runs[0][1]
    _, after_init = _run(_RECEIVING)
    against = {name: ratios(times, name, LIMIT) for name in _IMPORTED}
    in_ms = spreads(times, 1000)
    return RowResult(
        "import",
        "import, against flask",
        (
            ratio_figure("CPU time against flask's", against, target=1.25),
            Figure("CPU time", "ms", in_ms),
            count_figure(
                "imports requests", {OURS: spread_of([float("requests" in loaded[OURS])])}, target=0
            ),
        ),
        (
            f"of requests, cryptography.fernet, jwt and flask_caching, importing the library imports "
            f"{', '.join(loaded[OURS]) or 'none'}",
            f"of requests and cryptography.fernet, init_app of an app that only receives imports "
            f"{', '.join(after_init) or 'neither'}",
        ),
    )


def _run(program: str) -> tuple[float, list[str]]:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    seconds, loaded = json.loads(done.stdout)
    return seconds, loaded


ROW = Row("import", _measure)
