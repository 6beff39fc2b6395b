"""The example in a process of its own, and its page in a real Chromium."""

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
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

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
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")  # not "session": while Playwright runs, no test can start an event loop
def browser() -> Iterator[Browser]:
    if not shutil.which(CHROMIUM):
        _missing(f"{CHROMIUM} does not exist")
    try:
        import axe_playwright_python  # noqa: F401
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright or axe is not installed (extra [browser])")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Start ``python -m example_app``, and return the URL of its page. Fail if it logs a traceback."""
    with _running_example(tmp_path / "stderr.txt") as address:
        yield address
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()  # it also holds the log of outages


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Open the page. Fail if its console shows a problem, or if a request fails or goes to another host."""
    with opened(browser, address) as page:
        yield page


@contextmanager
def opened(
    browser: Browser, address: str, scheme: str = "light", size: dict[str, int] = WIDE
) -> Iterator[Page]:
    complaints: list[str] = []
    context = browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")
    context.set_default_timeout(20_000)

    def check_host(request: Request) -> None:
        if urlsplit(request.url)[:2] != urlsplit(address)[:2]:
            complaints.append(f"a request to another host: {request.url}")

    context.on("request", check_host)
    page = context.new_page()
    page.on("console", lambda entry: complaints.append(entry.text) if entry.type != "log" else None)
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
            matches = (re.match(r"Open the page to try more: (\S+)", line) for line in process.stdout)
            found = next(filter(None, matches), None)
            assert found, errors.read_text()
            yield found[1]
        finally:
            process.terminate()


def _missing(problem: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{problem}, and in CI every test must run", pytrace=False)
    pytest.skip(problem)
