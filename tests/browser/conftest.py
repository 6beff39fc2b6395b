"""The example as a process of its own, and a page of it in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")  # not the session: while Playwright runs, no test can start an event loop
def browser() -> Iterator[Browser]:
    if not shutil.which(CHROMIUM):
        _missing(f"there is no {CHROMIUM}")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright is not installed (extra [browser])")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where the page of a new ``python -m example_app`` is, which fails nowhere until its end."""
    with _running_example(tmp_path / "stderr.txt") as address:
        yield address
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()  # the pool's outages are logged there


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, opened. Fails if its console shows an error or a warning, or a request of its fails."""
    with opened(browser, address) as page:
        yield page


@contextmanager
def opened(
    browser: Browser, address: str, scheme: str = "light", size: dict[str, int] = WIDE
) -> Iterator[Page]:
    complaints: list[str] = []
    context = browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert complaints == []


@contextmanager
def _running_example(errors: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "example_app", "--port", "0"]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            said = (re.match(r"The same with pictures: (\S+)", line) for line in process.stdout)
            found = next(filter(None, said), None)
            assert found, errors.read_text()
            yield found[1]
        finally:
            process.terminate()


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and in CI every test must run", pytrace=False)
    pytest.skip(what)
