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
STEPS = ["call", "outage", "again", "new-key", "recovery"]
READ, NO_KEYS = CALLS[0], CALLS[-1]
LINKS = ["README", "Documentation", "Source of both services"]
SWITCHES = {
    "short-life": "Short-lived tokens",
    "restart": "Restart",
    "pool": "User pool",
    "rotate": "Rotate the key",
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

NAME_OF_FOCUSED = """() => Object.values(document.activeElement.dataset)[0]
    ?? document.activeElement.textContent"""


# -- the library ---------------------------------------------------------------------------------


def test_page_names_the_library_and_links_to_its_texts(page: Page) -> None:
    assert page.locator("h1").inner_text() == "flask-m2m-cognito"
    assert page.locator("nav a").all_inner_texts() == LINKS
    with page.context.expect_page() as opening:
        page.get_by_role("link", name=LINKS[2]).click()
    opening.value.get_by_text("def create_orders_app(").wait_for()


# -- the tour ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "Enter", "Space"], ids=["mouse", "Enter", "Space"])
def test_tour_goes_from_a_call_to_the_recovery(page: Page, key: str | None) -> None:
    assert attributes(page, "data-step") == STEPS
    seen = []
    for step in STEPS:
        button = page.locator(f"[data-step={step}]")
        if key is None:
            button.click()
        else:
            button.press(key)
        wait_until_idle(page)
        assert button.get_attribute("aria-current") == "true"
        seen.append((lamp(page), chips(page)))
    assert seen == [
        ("on", ["200", "200"]),
        ("off", ["200", "200"]),
        ("off", ["200", "200"]),
        ("off", ["503"]),
        ("on", ["200", "200"]),
    ]


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


def test_both_hops_are_side_by_side_with_collapsed_claims(page: Page) -> None:
    click(page, READ)
    assert page.locator(".token[open]").count() == 0
    left, right = (box(card) for card in page.locator(".hop").all())
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    assert page.locator(".hop .guard pre").all_inner_texts()[1:] == [
        "with orders_m2m.session() as session:",
        '@inventory_m2m.require_scopes("inventory/read")',
    ]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_keys_open_the_claims(page: Page, key: str) -> None:
    click(page, READ)
    page.locator(".token summary").first.focus()
    page.keyboard.press(key)
    page.locator(".token[open] th", has_text="client_id").wait_for()


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


@pytest.mark.parametrize("key", [None, "Enter", "Space"], ids=["mouse", "Enter", "Space"])
def test_hundred_calls_show_what_they_cost(page: Page, key: str | None) -> None:
    click(page, READ)
    turn(page, "pool")
    button = page.get_by_role("button", name="100 calls now")
    if key is None:
        button.click()
    else:
        button.press(key)
    wait_until_idle(page)
    statuses, p50, p99, tokens, keys = page.locator(".figures dd").all_inner_texts()
    assert (statuses, tokens, keys) == ("100 \u00d7 200", "0", "0")
    assert 0 < float(p50.removesuffix(" ms")) <= float(p99.removesuffix(" ms"))
    assert "202 requests, 202 accepted. Outage" in timeline(page)


def test_answer_of_a_plain_decorator_is_shown_beside_it(page: Page) -> None:
    click(page, READ)
    assert page.locator(".plain .chip").all_inner_texts() == ["200"]
    click(page, NO_KEYS)
    assert (chips(page), page.locator(".plain .chip").all_inner_texts()) == (["503"], ["401"])
    with page.context.expect_page() as opening:
        page.locator(".plain a").press("Enter")
    opening.value.get_by_text("def create_plain_app(").wait_for()


# -- the switches --------------------------------------------------------------------------------


def test_page_has_all_switches(page: Page) -> None:
    assert attributes(page, "data-switch") == list(SWITCHES)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_switches_stay_in_view_below_the_last_call(
    browser: Browser, address: str, size: dict[str, int]
) -> None:
    with opened(browser, address, size=size) as page:
        click(page, NO_KEYS)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert page.evaluate("scrollY") > 0
        for name in SWITCHES:
            assert 0 <= box(switch(page, name))["y"] < size["height"] / 2
        assert page.evaluate("document.elementFromPoint(20, innerHeight / 2).closest('#stage')") is None


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


# -- the timeline --------------------------------------------------------------------------------


def test_timeline_shows_that_calls_are_accepted_in_an_outage(page: Page) -> None:
    click(page, READ)
    turn(page, "pool")
    click(page, READ)
    assert page.locator("#timeline .outage").count() == 1
    assert page.locator("#timeline .s2").count() == 4
    assert re.search(r"Outage of \d+ s: 2 requests, 2 accepted\.", timeline(page))
    turn(page, "pool")
    click(page, READ)
    assert re.search(r"6 requests, 6 accepted\. Outage of \d+ s: 2 requests", timeline(page))


def test_timeline_shows_statuses_rotations_and_fetches(page: Page) -> None:
    click(page, CALLS[3])
    turn(page, "rotate")
    click(page, NO_KEYS)
    titles = page.locator("#timeline title").all_text_contents()
    assert {"orders: 401", "orders: 503", "new key", "The pool is off"} <= set(titles)
    assert page.locator("#timeline .s4, #timeline .s5").count() == 2


@pytest.mark.parametrize("key", [None, "Enter", "Space"], ids=["mouse", "Enter", "Space"])
def test_health_is_shown_live(page: Page, key: str | None) -> None:
    opener = page.locator(".health summary")
    if key is None:
        opener.click()
    else:
        opener.press(key)
    page.locator("#health", has_text='"status": "starting"').wait_for()
    click(page, READ)
    assert page.locator("#health-status").inner_text() == "ok"
    assert '"ready": true' in page.locator("#health").inner_text()
    click(page, NO_KEYS)
    assert page.locator("#health-status").inner_text() == "degraded"


# -- the keyboard --------------------------------------------------------------------------------


def test_tab_visits_all_buttons_in_order_with_visible_focus(page: Page) -> None:
    visited = []
    order = [*LINKS, "100", *SWITCHES, "Tour", *STEPS]
    for _ in order:
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS_IS_SEEN)
        visited.append(page.evaluate(NAME_OF_FOCUSED))
    assert visited == order


def test_tab_visits_all_cases_in_order_with_visible_focus(page: Page) -> None:
    show_cases(page)
    for call in CALLS:
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS_IS_SEEN)
        assert page.evaluate(NAME_OF_FOCUSED) == call.key


def test_arrow_keys_switch_between_tour_and_cases(page: Page) -> None:
    page.get_by_role("tab", name="Tour").focus()
    for key, selected in (
        ("ArrowRight", "All cases"),
        ("ArrowRight", "Tour"),
        ("End", "All cases"),
        ("Home", "Tour"),
    ):
        page.keyboard.press(key)
        assert page.evaluate(NAME_OF_FOCUSED) == selected
        assert page.get_by_role("tab", selected=True).all_inner_texts() == [selected]
        assert page.get_by_role("tabpanel").count() == 1


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_keys_press_the_focused_button_and_keep_the_focus(page: Page, key: str) -> None:
    show_cases(page)
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
        page.evaluate("scrollTo(0, 0)")  # else the picture, which sticks to the top, covers the middle
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
    show_cases(page)
    press(page, page.get_by_role("button", name=f"{call.status} {call.label}"))


def show_cases(page: Page) -> None:
    page.get_by_role("tab", name="All cases").click()


def turn(page: Page, name: str) -> None:
    press(page, switch(page, name))


def switch(page: Page, name: str) -> Locator:
    role = "switch" if name in ("pool", "short-life") else "button"
    return page.get_by_role(role, name=SWITCHES[name])  # type: ignore[arg-type]


def press(page: Page, button: Locator) -> None:
    button.click()
    wait_until_idle(page)


def box(element: Locator) -> dict[str, float]:
    found = element.bounding_box()
    assert found is not None
    return dict(found)  # type: ignore[arg-type]


def wait_until_idle(page: Page) -> None:
    page.locator("[aria-busy]").wait_for(state="detached")


def attributes(page: Page, name: str) -> list[str | None]:
    return [button.get_attribute(name) for button in page.locator(f"[{name}]").all()]


def chips(page: Page) -> list[str]:
    return page.locator(".hop h3 .chip").all_inner_texts()


def summary(page: Page) -> str:
    return page.locator("#summary").inner_text()


def timeline(page: Page) -> str:
    return page.locator("#timeline-text").inner_text()


def request(page: Page, hop: int = 0) -> str:
    return page.locator(".hop").nth(hop).locator(".exchange pre").first.inner_text()


def answer(page: Page, hop: int = 0) -> str:
    return page.locator(".hop").nth(hop).locator(".exchange pre").last.inner_text()


def claims(page: Page, hop: int = 0) -> dict[str, tuple[str, str]]:
    """Return value and meaning of each claim of the token in this card."""
    card = page.locator(".hop").nth(hop)
    if card.locator(".token").get_attribute("open") is None:
        card.locator("summary").click()
    rows = card.locator("tbody tr").all()
    cells = (row.locator("th, td").all_inner_texts() for row in rows)
    return {name: (value, meaning) for name, value, meaning in cells}


def lamp(page: Page) -> str:
    return page.locator("#lamp").inner_text()


def is_on(page: Page, name: str) -> str | None:
    return switch(page, name).get_attribute("aria-checked")


def number(page: Page, id_: str) -> int:
    return int(page.locator(f"#{id_}").inner_text())
