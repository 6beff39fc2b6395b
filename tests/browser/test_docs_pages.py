"""Every page of the documentation, with everything on it, fits into a narrow and a wide window."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import ROOT, WIDE, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.processes]

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md"))
NARROW = {"width": 360, "height": 740}

# A code block scrolls in its own box. Everything else must wrap.
TOO_WIDE = """() => {
    const blocks = [...document.querySelectorAll("article :is(.table-wrapper, p, li, dt, td)")];
    const found = blocks.filter((block) => block.scrollWidth > block.clientWidth + 1);
    return found.map((block) => `${block.tagName} ${block.textContent.trim().slice(0, 60)}`);
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation, and return its folder."""
    pytest.importorskip("sphinx", reason="Sphinx is not installed (extra [docs])")
    site = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", DOCS, site], cwd=ROOT, check=True)
    return site


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_nothing_is_wider_than_the_window(size: dict[str, int], site: Path, browser: Browser) -> None:
    too_wide = {}
    with opened(browser, (site / "index.html").as_uri(), size=size) as page:
        for name in PAGES:
            page.goto((site / f"{name}.html").as_uri())
            fits = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            too_wide[name] = page.evaluate(TOO_WIDE) + ([] if fits else ["the page"])
    assert {name: found for name, found in too_wide.items() if found} == {}
