"""The benchmarks run, with correct counts. Times are not tested: only very large ratios fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import ROWS

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_quick_row_passes_its_check(name: str, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"results.{kind}" for kind in ("json", "svg", "markdown")}
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--check", "--no-peers", "--only", name]
    command += [part for kind, path in files.items() for part in (f"--{kind}", str(path))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [row["name"] for row in json.loads(files["json"].read_text())["rows"]] == [name]
    assert files["svg"].read_text().startswith("<svg")
    assert files["markdown"].read_text().startswith("| work |")
