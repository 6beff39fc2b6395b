"""The example's page in Chromium: each button and switch, with the mouse and with the keyboard.

``BROWSER_SCREENSHOTS`` names a folder for the screenshots. By default they go to the test's temporary folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from example_app.calls import CALLS, Call
from example_app.stage import SHORT_LIFE
from example_app.traffic import MEANINGS, phrase_of

from .conftest import WIDE, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.slow, pytest.mark.processes]

NARROW = {"width": 360, "height": 740}
READ, NO_KEYS = CALLS[0], CALLS[-1]
SWITCHES = {
    "pool": "User pool",
    "short-life": "Short-lived tokens for orders",
    "rotate": "Rotate the pool's key",
    "restart": "Restart orders",
}

# The lowest contrast of any text, by WCAG's formula.
LEAST_CONTRAST = """() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const back = (node) => {
        const color = numbers(getComputedStyle(node).backgroundColor);
        return color[3] === 0 ? back(node.parentElement) : color;
    };
    const light = (color) => {
        const [r, g, b] = color.slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (node) => {
        const both = [light(numbers(getComputedStyle(node).color)), light(back(node))];
        return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    };
    const texts = "h1, h2, h3, h4, p, pre, th, td, small, button, .chip, .lamp, .status, .left";
    return Math.min(...[...document.querySelectorAll(texts)].map(ratio));
}"""

# Whether the focused element has an outline, and nothing covers its middle.
FOCUS_IS_SEEN = """() => {
    const node = document.activeElement, box = node.getBoundingClientRect();
    const above = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return getComputedStyle(node).outlineStyle === "solid" && node.contains(above);
}"""


# -- the buttons ---------------------------------------------------------------------------------


def test_every_call_returns_the_status_on_its_button(page: Page) -> None:
    assert attributes(page, "data-call") == [call.key for call in CALLS]
    for call in CALLS:
        click(page, call)
        assert chips(page)[0] == str(call.status)
        assert page.locator("[aria-current=true]").get_attribute("data-call") == call.key
        assert f"{call.service.capitalize()} answered {phrase_of(call.status)}" in summary(page)
        assert page.locator(f"#arrow-{call.service} .status").inner_text() == str(call.status)
        assert answer(page).startswith(f"HTTP/1.1 {call.status} ")
        assert request(page).startswith(f"{call.method} {call.path} HTTP/1.1")
        assert page.locator(".hop .guard pre").first.inner_text()


def test_accepted_call_continues_with_a_token_of_orders(page: Page) -> None:
    click(page, READ)
    assert page.locator(".hop h3").all_inner_texts()[0].startswith("shop → orders")
    assert chips(page) == ["200", "200"]
    assert [claims(page, hop)["client_id"][0] for hop in (0, 1)] == ["shop", "orders"]
    assert page.locator("#arrow-inventory .request").inner_text() == "GET /items/tea"


def test_token_is_shown_with_claims_and_time_left(page: Page) -> None:
    click(page, READ)
    shown = claims(page)
    assert shown["token_use"][0] == "access"
    assert shown["scope"][0] == "orders/read orders/write"
    assert re.fullmatch(r"\d+ \(.+\)", shown["exp"][0])
    assert all(meaning == MEANINGS[name] for name, (_, meaning) in shown.items())
    assert re.search(r"eyJ\w{5}….{4}, (59|60) min left", page.locator(".token summary").first.inner_text())
    assert page.locator(".token progress").first.evaluate("bar => bar.value / bar.max") > 0.9


def test_guard_that_decided_is_shown(page: Page) -> None:
    click(page, READ)
    guard = page.locator(".guard").first.inner_text()
    assert '@orders_m2m.require_scopes("orders/read")' in guard
    assert re.search(r"services\.py, line \d+", guard)


@pytest.mark.parametrize(
    ("key", "header"),
    [
        ("no-token", r'WWW-Authenticate: Bearer realm="orders", scope="orders/read"\n'),
        ("expired", r'WWW-Authenticate: Bearer .*error="invalid_token"'),
        ("no-scope", r'WWW-Authenticate: Bearer .*error="insufficient_scope".*scope="orders/write"'),
        ("no-client", r'WWW-Authenticate: Bearer realm="inventory"\n'),
        ("bad-header", r'WWW-Authenticate: Bearer .*error="invalid_request"'),
        ("no-keys", r"Retry-After: \d+\n"),
    ],
    ids=["no token", "expired", "missing scope", "wrong client", "malformed header", "no keys"],
)
def test_response_is_shown_with_its_headers(page: Page, key: str, header: str) -> None:
    click(page, READ)
    click(page, next(call for call in CALLS if call.key == key))
    assert re.search(header, answer(page))
    assert "Content-Type: application/problem+json" in answer(page)


# -- the switches --------------------------------------------------------------------------------


def test_page_has_all_switches(page: Page) -> None:
    assert attributes(page, "data-switch") == list(SWITCHES)


def test_calls_still_work_while_the_pool_is_shown_as_off(page: Page) -> None:
    click(page, READ)
    turn(page, "pool")
    assert (lamp(page), is_on(page, "pool")) == ("off", "false")
    click(page, READ)
    assert (chips(page), "The pool is off." in summary(page)) == (["200", "200"], True)
    turn(page, "pool")
    assert (lamp(page), is_on(page, "pool")) == ("on", "true")


def test_new_key_button_also_switches_the_pool_off(page: Page) -> None:
    click(page, READ)
    click(page, NO_KEYS)
    assert (lamp(page), is_on(page, "pool")) == ("off", "false")
    assert "First, the pool got a new key" in summary(page)


def test_time_left_of_a_short_lived_token_counts_down(page: Page) -> None:
    turn(page, "short-life")
    assert is_on(page, "short-life") == "true"
    click(page, READ)
    left = page.locator(".token .left").nth(1)
    shown = int(left.inner_text().removesuffix(" s left"))
    assert 0 < shown <= SHORT_LIFE
    page.locator(".token").nth(1).get_by_text(f"{shown - 2} s left", exact=True).wait_for()
    turn(page, "short-life")
    assert is_on(page, "short-life") == "false"


def test_new_key_triggers_one_download(page: Page) -> None:
    click(page, READ)
    before = number(page, "key-downloads")
    turn(page, "rotate")
    assert page.locator("#key-count").inner_text() + page.locator("#key-plural").inner_text() == "2s"
    click(page, READ)
    assert number(page, "key-downloads") == before
    click(page, next(call for call in CALLS if call.key == "newest-key"))
    assert number(page, "key-downloads") == before + 1


def test_restarted_orders_fetches_keys_and_token_again(page: Page) -> None:
    click(page, READ)
    before = number(page, "tokens-orders"), number(page, "key-downloads")
    turn(page, "restart")
    click(page, READ)
    assert (number(page, "tokens-orders"), number(page, "key-downloads")) == (before[0] + 1, before[1] + 1)


# -- the keyboard --------------------------------------------------------------------------------


def test_tab_visits_all_buttons_in_order_with_visible_focus(page: Page) -> None:
    visited = []
    for _ in range(len(CALLS) + len(SWITCHES)):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS_IS_SEEN)
        visited.append(page.evaluate("Object.values(document.activeElement.dataset)[0]"))
    assert visited == [*(call.key for call in CALLS), *SWITCHES]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_keys_press_the_focused_button_and_keep_the_focus(page: Page, key: str) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press(key)
    wait_until_idle(page)
    assert chips(page) == ["200", "200"]
    switch(page, "pool").focus()
    page.keyboard.press(key)
    wait_until_idle(page)
    assert is_on(page, "pool") == "false"
    assert page.evaluate("document.activeElement.dataset.switch") == "pool"


# -- how it looks --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_readable(
    browser: Browser, address: str, tmp_path: Path, scheme: str, size: dict[str, int]
) -> None:
    def take_screenshot(moment: str) -> None:
        folder = Path(os.environ.get("BROWSER_SCREENSHOTS") or tmp_path)
        folder.mkdir(parents=True, exist_ok=True)
        page.evaluate("scrollTo(0, 0)")  # else the summary, which sticks to the top, covers the middle
        page.screenshot(path=folder / f"{scheme}-{size['width']}-{moment}.png", full_page=True)

    with opened(browser, address, scheme, size) as page:
        take_screenshot("1-new")
        for moment, call in (("2-accepted", READ), ("3-rejected", CALLS[4]), ("4-no-keys", NO_KEYS)):
            click(page, call)
            take_screenshot(moment)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            assert page.evaluate(LEAST_CONTRAST) >= 4.5
        is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert is_dark == (scheme == "dark")


def test_narrow_screen_has_a_link_to_the_request_log(browser: Browser, address: str) -> None:
    with opened(browser, address, size=NARROW) as page:
        click(page, READ)
        page.get_by_role("link", name="Request log").click()
        top = page.locator("#result").evaluate("node => node.getBoundingClientRect().top")
        assert 0 <= top < NARROW["height"] / 2


# -- pressing and reading ------------------------------------------------------------------------


def click(page: Page, call: Call) -> None:
    press(page, page.get_by_role("button", name=f"{call.status} {call.label}"))


def turn(page: Page, name: str) -> None:
    press(page, switch(page, name))


def switch(page: Page, name: str) -> Locator:
    role = "switch" if name in ("pool", "short-life") else "button"
    return page.get_by_role(role, name=SWITCHES[name])  # type: ignore[arg-type]


def press(page: Page, button: Locator) -> None:
    button.click()
    wait_until_idle(page)


def wait_until_idle(page: Page) -> None:
    page.locator("[aria-busy]").wait_for(state="detached")


def attributes(page: Page, name: str) -> list[str | None]:
    return [button.get_attribute(name) for button in page.locator(f"[{name}]").all()]


def chips(page: Page) -> list[str]:
    return page.locator(".hop h3 .chip").all_inner_texts()


def summary(page: Page) -> str:
    return page.locator("#summary").inner_text()


def request(page: Page, hop: int = 0) -> str:
    return page.locator(".hop").nth(hop).locator(".exchange pre").first.inner_text()


def answer(page: Page, hop: int = 0) -> str:
    return page.locator(".hop").nth(hop).locator(".exchange pre").last.inner_text()


def claims(page: Page, hop: int = 0) -> dict[str, tuple[str, str]]:
    """Return value and meaning of each claim of the token in this card."""
    rows = page.locator(".hop").nth(hop).locator("tbody tr").all()
    cells = (row.locator("th, td").all_inner_texts() for row in rows)
    return {name: (value, meaning) for name, value, meaning in cells}


def lamp(page: Page) -> str:
    return page.locator("#lamp").inner_text()


def is_on(page: Page, name: str) -> str | None:
    return switch(page, name).get_attribute("aria-checked")


def number(page: Page, id_: str) -> int:
    return int(page.locator(f"#{id_}").inner_text())
