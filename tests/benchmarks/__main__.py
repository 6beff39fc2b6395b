"""Measure each kind of work and print a table: ``python -m tests.benchmarks``."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.plot import as_svg
from tests.benchmarks.results import RowResult, as_json, check_errors
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.rows import (
    cold_fleet,
    crowd,
    growth,
    imports,
    memory,
    new_token,
    outbound,
    revocations,
    seen_token,
    short_lived,
    unknown_keys,
    workers,
)
from tests.benchmarks.subjects import installed_peers
from tests.benchmarks.table import as_markdown, as_text

ROWS: tuple[Row, ...] = tuple(
    module.ROW
    for module in (
        seen_token,
        revocations,
        new_token,
        outbound,
        crowd,
        short_lived,
        unknown_keys,
        workers,
        cold_fleet,
        imports,
        growth,
        memory,
    )
)

_FLAGS = {
    "--quick": "measure all rows in about a minute on an idle machine, with more noise and fewer peers",
    "--check": "fail on wrong counts, and on ratios above three times the target",
    "--no-peers": "measure only this library and the limits",
}

_PACKAGES = ("flask", "werkzeug", "pyjwt", "cryptography", "authlib", "google-auth", "joserfc", "m2m-cognito")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the results. Return 1 if ``--check`` finds an error, else 0."""
    options = _arguments(arguments)
    # Some rows make an endpoint hang, which would be logged.
    logging.getLogger("flask_m2m_cognito").setLevel(logging.CRITICAL)
    peers, missing = ([], ["peers are left out"]) if options.no_peers else installed_peers()
    about = _about(options.quick)
    print(*(f"{name}: {value}" for name, value in about.items()), *missing, sep="\n")
    results = []
    for row in ROWS:
        if not options.only or row.name in options.only:
            results.append(_measure(row, Effort(options.quick, peers)))
            print(as_text(results[-1]), flush=True)
    _write(options.json, json.dumps(as_json(results, about), indent=1) + "\n")
    _write(options.markdown, as_markdown(results))
    _write(options.svg, as_svg(results))
    return _check(results) if options.check else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    for flag, text in _FLAGS.items():
        parser.add_argument(flag, action="store_true", help=text)
    only = "measure only this row; may be repeated: " + ", ".join(names)
    parser.add_argument("--only", action="append", choices=names, metavar="ROW", help=only)
    for kind in ("json", "markdown", "svg"):
        parser.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"write the results as {kind}")
    return parser.parse_args(arguments)


def _measure(row: Row, effort: Effort) -> RowResult:
    begun = time.perf_counter()
    return replace(row.measure(effort), seconds=time.perf_counter() - begun)


def _check(results: Sequence[RowResult]) -> int:
    errors = check_errors(results)
    print("\nchecked:", *(errors or ["no errors"]), sep="\n  ")
    return 1 if errors else 0


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        path.write_text(text, encoding="utf-8")


def _about(quick: bool) -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load before": " ".join(f"{each:.2f}" for each in os.getloadavg()),
        "packages": ", ".join(filter(None, map(_version, _PACKAGES))),
        "quick": quick,
    }


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
