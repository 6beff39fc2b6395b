"""The example's page in Chromium: each button and switch, with the mouse and with the keyboard.

``BROWSER_SCREENSHOTS`` names a folder for the screenshots. By default they go to the test's temporary folder.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from example_app.calls import CALLS, Call
from example_app.stage import CLIENTS, SHORT_LIFE
from example_app.traffic import MEANINGS, phrase_of

from .conftest import WIDE, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.slow, pytest.mark.processes]

NARROW = {"width": 360, "height": 740}
BY_MOUSE_AND_KEYS = pytest.mark.parametrize("key", [None, "Enter", "Space"], ids=["mouse", "Enter", "Space"])
STEPS = ["call", "outage", "again", "new-key", "recovery"]
READ, NO_TOKEN, NO_KEYS = CALLS[0], CALLS[3], CALLS[-1]
LINKS = ["README", "Documentation", "Source of both services"]
DETAILS = ["m2m.health(), updated every 2 s", "Requests and events as a list"]
SWITCHES = {
    "short-life": "Short-lived tokens",
    "restart": "Restart",
    "pool": "User pool",
    "rotate": "Rotate the key",
}

# Each mark of the timeline with its text. Those in an outage end with "(off)".
MARKS = """() => {
    const number = (node, name) => parseFloat(node.getAttribute(name));
    const isOff = (x) => [...document.querySelectorAll("#timeline rect")].some(
        (band) => number(band, "x") <= x && x <= number(band, "x") + number(band, "width"));
    return [...document.querySelectorAll("#timeline :is(path, .rotation, .restart)")].map((mark) => {
        const x = mark.tagName === "path" ? number(mark.parentNode, "x") : number(mark, "x1");
        return mark.textContent + (isOff(x) ? " (off)" : "");
    });
}"""

# The shape of each kind of mark.
SHAPES = """() => Object.fromEntries([...document.querySelectorAll("#timeline [class]")].map((mark) =>
    [mark.getAttribute("class"), mark.getAttribute("d") ?? getComputedStyle(mark).strokeDasharray]))"""

# The lowest contrast of the timeline's marks and bands, by WCAG's formula. axe checks that of texts.
LEAST_CONTRAST = """() => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const ratio = (one, other) => Math.max(one / other, other / one);
    const band = document.querySelector("#timeline rect");
    const backs = [getComputedStyle(document.body).backgroundColor, getComputedStyle(band).fill];
    const marks = [band, ...document.querySelectorAll("#timeline :is(path, .rotation, .restart)")];
    return Math.min(...marks.map(getComputedStyle).flatMap(({ fill, stroke }) =>
        backs.map((back) => ratio(light(stroke === "none" ? fill : stroke), light(back)))));
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
    for name, text in zip(LINKS, ("# flask-m2m-cognito", "toctree", "def create_orders_app("), strict=True):
        with page.context.expect_page() as opening:
            page.get_by_role("link", name=name).click()
        opening.value.get_by_text(text).wait_for()


# -- the tour ------------------------------------------------------------------------------------


@BY_MOUSE_AND_KEYS
def test_tour_goes_from_a_call_to_the_recovery(page: Page, key: str | None) -> None:
    assert attributes(page, "data-step") == STEPS
    seen = []
    for step in STEPS:
        button = page.locator(f"[data-step={step}]")
        press(page, button, key)
        assert button.get_attribute("aria-current") == "true"
        seen.append((lamp(page), chips(page)))
    assert seen == [
        ("on", ["200", "200"]),
        ("off", ["200", "200"]),
        ("off", ["200", "200"]),
        ("off", ["503"]),
        ("on", ["200", "200"]),
    ]


def test_timeline_of_the_tour_is_read_with_the_keyboard_only(page: Page) -> None:
    """The known key is accepted in the outage, and the plain decorator rejects every call."""
    new = {
        "call": ["orders: 200", "inventory: 200", "plain: 200", "key download", "key download"],
        "outage": [],
        "again": ["orders: 200 (off)", "inventory: 200 (off)", "plain: 401 (off)"],
        "new-key": ["orders: 503 (off)", "plain: 401 (off)", "new key (off)"],
        "recovery": ["orders: 200", "inventory: 200", "plain: 200", "key download"],
    }
    expected = Counter([f"token request of {client}" for client in CLIENTS])
    for step in STEPS:
        tab_to(page, step)
        page.keyboard.press("Enter")
        wait_until_idle(page)
        expected.update(new[step])
        shown = Counter(page.evaluate(MARKS))
        if step == "recovery":  # it may call before Retry-After is over
            del shown["orders: 503"]
            shown["plain: 200"] = expected["plain: 200"]
        assert shown == expected
    assert timeline(page) == "In the outage: orders accepted 1 of 2 requests, the plain decorator 0 of 2."


def test_tour_fits_into_one_view_with_its_results(page: Page) -> None:
    for step in STEPS:
        press(page, page.locator(f"[data-step={step}]"))
        for part in (".picture", "#timeline", ".legend", "#summary", ".hop h3", "#remark-step-recovery"):
            place = box(page.locator(part).first)
            assert place["y"] >= 0
            assert place["y"] + place["height"] <= WIDE["height"], (step, part)


# -- the buttons ---------------------------------------------------------------------------------


@BY_MOUSE_AND_KEYS
def test_every_call_returns_the_status_on_its_button(page: Page, key: str | None) -> None:
    assert attributes(page, "data-call") == [call.key for call in CALLS]
    for call in CALLS:
        click(page, call, key)
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


@BY_MOUSE_AND_KEYS
def test_hundred_calls_show_what_they_cost(page: Page, key: str | None) -> None:
    click(page, READ)
    turn(page, "pool")
    press(page, page.get_by_role("button", name="100 calls now"), key)
    statuses, plain, p50, p99, tokens, keys = page.locator(".figures dd").all_inner_texts()
    assert (statuses, plain) == ("100 \u00d7 200", "100 \u00d7 401")
    assert (tokens, keys) == ("0", "0")
    assert 0 < float(p50.removesuffix(" ms")) <= float(p99.removesuffix(" ms"))
    assert (
        timeline(page) == "In the outage: orders accepted 100 of 100 requests, the plain decorator 0 of 100."
    )


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
def test_switches_and_timeline_stay_in_view(browser: Browser, address: str, size: dict[str, int]) -> None:
    with opened(browser, address, size=size) as page:
        click(page, NO_KEYS)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert page.evaluate("scrollY") > 0
        assert 0 <= box(page.locator("#timeline"))["y"] < size["height"] / 2
        for name in SWITCHES:
            assert 0 <= box(switch(page, name))["y"] < size["height"] / 2
        assert page.evaluate("document.elementFromPoint(20, innerHeight / 2).closest('#stage')") is None


@BY_MOUSE_AND_KEYS
def test_calls_still_work_while_the_pool_is_shown_as_off(page: Page, key: str | None) -> None:
    click(page, READ)
    turn(page, "pool", key)
    assert (lamp(page), is_on(page, "pool")) == ("off", "false")
    click(page, READ)
    assert (chips(page), "The pool is off." in summary(page)) == (["200", "200"], True)
    turn(page, "pool", key)
    assert (lamp(page), is_on(page, "pool")) == ("on", "true")


def test_new_key_button_also_switches_the_pool_off(page: Page) -> None:
    click(page, READ)
    click(page, NO_KEYS)
    assert (lamp(page), is_on(page, "pool")) == ("off", "false")
    assert "First, the pool got a new key" in summary(page)


@BY_MOUSE_AND_KEYS
def test_time_left_of_a_short_lived_token_counts_down(page: Page, key: str | None) -> None:
    turn(page, "short-life", key)
    assert is_on(page, "short-life") == "true"
    click(page, READ)
    left = page.locator(".token .left").nth(1)
    shown = int(left.inner_text().removesuffix(" s left"))
    assert 0 < shown <= SHORT_LIFE
    page.locator(".token").nth(1).get_by_text(f"{shown - 2} s left", exact=True).wait_for()
    turn(page, "short-life", key)
    assert is_on(page, "short-life") == "false"


@BY_MOUSE_AND_KEYS
def test_new_key_triggers_one_download(page: Page, key: str | None) -> None:
    click(page, READ)
    before = number(page, "key-downloads")
    turn(page, "rotate", key)
    assert page.locator("#key-count").inner_text() + page.locator("#key-plural").inner_text() == "2s"
    click(page, READ)
    assert number(page, "key-downloads") == before
    click(page, next(call for call in CALLS if call.key == "newest-key"))
    assert number(page, "key-downloads") == before + 1


@BY_MOUSE_AND_KEYS
def test_restarted_orders_fetches_keys_and_token_again(page: Page, key: str | None) -> None:
    click(page, READ)
    before = number(page, "tokens-orders"), number(page, "key-downloads")
    turn(page, "restart", key)
    click(page, READ)
    assert (number(page, "tokens-orders"), number(page, "key-downloads")) == (before[0] + 1, before[1] + 1)


# -- the timeline --------------------------------------------------------------------------------


def test_each_kind_of_mark_has_its_own_shape_and_legend(page: Page) -> None:
    show_all_marks(page)
    shapes = page.evaluate(SHAPES)
    assert set(shapes) == {"s2", "s4", "s5", "key-download", "token-request", "rotation", "restart"}
    assert len(set(shapes.values())) == len(shapes) == page.locator(".legend span:visible").count()


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_timeline_is_also_a_list(page: Page, key: str) -> None:
    page.locator(".entries summary").press(key)
    show_all_marks(page)
    turn(page, "pool")
    texts = page.locator("#entries li").all_inner_texts()
    entries = [re.fullmatch(r"[\d:]+ [AP]M (.+?)(?: \(\d+ times\))?", text)[1] for text in texts]
    assert {
        "token request of shop",
        "key download",
        "orders: 401",
        "plain: 401",
        "new key",
        "orders restarted",
        "pool switched off",
        "orders: 503",
        "pool switched on",
    } <= {*entries}
    assert entries[-1] == "pool switched on"


@BY_MOUSE_AND_KEYS
def test_health_is_shown_live(page: Page, key: str | None) -> None:
    press(page, page.locator(".health summary"), key)
    page.locator("#health", has_text='"status": "starting"').wait_for()
    click(page, READ)
    assert page.locator("#health-status").inner_text() == "ok"
    assert '"ready": true' in page.locator("#health").inner_text()
    click(page, NO_KEYS)
    assert page.locator("#health-status").inner_text() == "degraded"


# -- the keyboard --------------------------------------------------------------------------------


def test_tab_visits_all_buttons_in_order_with_visible_focus(page: Page) -> None:
    visited = []
    order = [*LINKS, "100", *SWITCHES, "Tour", *STEPS, *DETAILS]
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
def test_page_is_readable_and_accessible(
    browser: Browser, address: str, tmp_path: Path, scheme: str, size: dict[str, int]
) -> None:
    folder = Path(os.environ.get("BROWSER_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def look(moment: str) -> None:
        page.screenshot(path=folder / f"{scheme}-{size['width']}-{moment}.png")
        page.evaluate("scrollTo(0, 0)")  # else the stage, which sticks to the top, covers what axe checks
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]

    with opened(browser, address, scheme, size) as page:
        look("0-new")
        for number, step in enumerate(STEPS, start=1):
            press(page, page.locator(f"[data-step={step}]"))
            look(f"{number}-{step}")
        for details in page.locator("summary").all():
            details.click()
        look("6-details")
        show_all_marks(page)
        look("7-all-cases")
        assert page.evaluate(LEAST_CONTRAST) >= 3
        assert page.locator(".legend").is_visible()
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.knob'), '::after').transitionDuration")
            == "0s"
        )
        is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert is_dark == (scheme == "dark")


def test_narrow_screen_has_a_link_to_the_request_log(browser: Browser, address: str) -> None:
    with opened(browser, address, size=NARROW) as page:
        click(page, READ)
        page.get_by_role("link", name="Request log").click()
        top = page.locator("#result").evaluate("node => node.getBoundingClientRect().top")
        assert 0 <= top < NARROW["height"] / 2


# -- pressing and reading ------------------------------------------------------------------------


def click(page: Page, call: Call, key: str | None = None) -> None:
    show_cases(page)
    press(page, page.get_by_role("button", name=f"{call.status} {call.label}"), key)


def show_cases(page: Page) -> None:
    page.get_by_role("tab", name="All cases").click()


def show_all_marks(page: Page) -> None:
    click(page, READ)
    click(page, NO_TOKEN)
    turn(page, "restart")
    click(page, NO_KEYS)


def turn(page: Page, name: str, key: str | None = None) -> None:
    press(page, switch(page, name), key)


def switch(page: Page, name: str) -> Locator:
    role = "switch" if name in ("pool", "short-life") else "button"
    return page.get_by_role(role, name=SWITCHES[name])  # type: ignore[arg-type]


def press(page: Page, button: Locator, key: str | None = None) -> None:
    """Press the button with the mouse, or with this key."""
    if key is None:
        button.click()
    else:
        button.press(key)
    wait_until_idle(page)


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the button with this name has the focus."""
    for _ in range(30):
        if page.evaluate(NAME_OF_FOCUSED) == name:
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab does not reach {name}")


def violations(page: Page) -> list[str]:
    """Return what axe-core finds, of every impact."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['impact']}: {each['help']}: {node['html']}" for each in found for node in each["nodes"]]


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
