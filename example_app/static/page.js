"use strict";

const byId = (id) => document.getElementById(id);

/* Create an element with these properties and children. Strings become text, never markup. */
function create(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/* Return the JSON of the answer: GET without content, POST with it. */
async function send(path, content) {
  const options = content === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  };
  const reply = await fetch(path, options);
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(answer.detail || `The server of this page answered ${reply.status}.`);
  return answer;
}

/* The picture */

function showState(state) {
  byId("tokens-shop").textContent = state.token_requests.shop;
  byId("tokens-orders").textContent = state.token_requests.orders;
  byId("key-downloads").textContent = state.key_downloads;
  byId("newest-key").textContent = state.keys.at(-1);
  byId("key-count").textContent = state.keys.length;
  byId("key-plural").textContent = state.keys.length === 1 ? "" : "s";
  byId("lamp").textContent = state.pool_on ? "on" : "off";
  byId("node-pool").classList.toggle("off", !state.pool_on);
  setSwitch("pool", state.pool_on);
  setSwitch("short-life", state.short_life);
  showTimeline(state.timeline);
  byId("health").textContent = JSON.stringify(state.health, null, 2);
  byId("health-status").textContent = state.health.status;
  byId("health-status").className = `lamp ${state.health.status}`;
  if (state.orders_token) {
    byId("orders-token").replaceChildren("its token: ", timeLeft(state.orders_token.expires_at));
  }
}

function setSwitch(name, on) {
  document.querySelector(`[data-switch="${name}"]`).setAttribute("aria-checked", String(on));
}

function showArrows(hops) {
  for (const name of ["orders", "inventory"]) {
    const hop = hops.find((each) => each.to === name);
    const arrow = byId(`arrow-${name}`);
    arrow.className = hop ? `arrow s${hop.status / 100 | 0}` : "arrow";
    arrow.querySelector(".request").textContent = hop ? hop.request[0].replace(" HTTP/1.1", "") : "\u00a0";
    arrow.querySelector(".status").textContent = hop ? hop.status : "\u00a0";
  }
}

/* The timeline: four lanes, with the newest entries on the right */

const LANE = 20;
const LANES = ["orders", "inventory", "plain", "pool"];
const SHAPES = {
  s2: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", s4: "M0-6L6 0L0 6L-6 0z", s5: "M-5-5L5 5M5-5L-5 5",
  "key-download": "M-3.5-8.5h7v7h-7z", "token-request": "M0 1.5l4.5 7h-9z",
};

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function showTimeline({ now, longest, calls, marks, outages }) {
  const first = Math.min(now, ...[...calls, ...marks].map((each) => each.at), ...outages.map((each) => each.start));
  const span = Math.min(longest, Math.max(15, now - first + 2));
  const height = LANE * LANES.length;
  const percent = (at) => 98 * Math.max(0, 1 - (now - at) / span);
  const x = (at) => `${percent(at)}%`;
  const y = (lane) => LANE * (LANES.indexOf(lane) + 0.5);
  const shape = (at, lane, kind, title) => draw("svg", { x: x(at), y: y(lane), overflow: "visible" },
    draw("path", { class: kind, d: SHAPES[kind] }, draw("title", {}, title)));
  const line = (at, kind, title) => draw("line", { class: kind, x1: x(at), x2: x(at), y1: 0, y2: height }, draw("title", {}, title));
  byId("timeline").replaceChildren(
    ...outages.map(({ start, end }) => draw("rect", { x: x(start), y: 1, height: height - 2,
      width: `${(end ? percent(end) : 100) - percent(start)}%` }, draw("title", {}, "The pool is off"))),
    ...LANES.map((lane) => draw("line", { x1: 0, x2: "100%", y1: y(lane), y2: y(lane) })),
    ...outages.map(({ start }) => draw("text", { x: x(start), y: height - 6, dx: 5 }, "off")),
    ...marks.map(({ at, kind, label }) => kind in SHAPES ? shape(at, "pool", kind, label) : line(at, kind, label)),
    ...calls.map(({ at, service, status }) => shape(at, service, `s${status / 100 | 0}`, `${service}: ${status}`)),
  );
  const outage = outages.at(-1);
  const during = outage && calls.filter(({ at }) => at >= outage.start && at <= (outage.end ?? now));
  byId("timeline-text").textContent = outage
    ? `In the outage: ${accepted(during)}.`
    : `Last ${Math.round(span)} s: ${accepted(calls)}.`;
  listEntries([
    ...calls.map(({ at, service, status }) => ({ at, label: `${service}: ${status}` })),
    ...marks,
    ...outages.map(({ start }) => ({ at: start, label: "pool switched off" })),
    ...outages.filter(({ end }) => end).map(({ end }) => ({ at: end, label: "pool switched on" })),
  ]);
}

function accepted(calls) {
  if (calls.length === 0) return "no requests";
  const [ours, plain] = ["orders", "plain"].map((name) => calls.filter(({ service }) => service === name));
  const good = (some) => some.filter(({ status }) => status < 300).length;
  return `orders accepted ${good(ours)} of ${ours.length} requests, the plain decorator ${good(plain)} of ${plain.length}`;
}

/* The same as text: one entry for all that is alike in a second */
function listEntries(entries) {
  const counts = new Map();
  for (const { at, label } of entries.sort((one, other) => one.at - other.at)) {
    const text = `${new Date(at * 1000).toLocaleTimeString()} ${label}`;
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  byId("entries").replaceChildren(...[...counts].map(
    ([text, count]) => create("li", {}, count > 1 ? `${text} (${count} times)` : text)));
}

/* Time left, updated once a second everywhere on the page */

function timeLeft(expiresAt) {
  const element = create("span", { className: "left" });
  element.dataset.expiresAt = expiresAt;
  element.textContent = timeLeftText(expiresAt);
  return element;
}

function timeLeftText(expiresAt) {
  const seconds = Math.round(expiresAt - Date.now() / 1000);
  if (seconds < 0) return `expired ${-seconds} s ago`;
  return seconds < 100 ? `${seconds} s left` : `${Math.round(seconds / 60)} min left`;
}

function countDown() {
  for (const element of document.querySelectorAll("[data-expires-at]")) {
    const expiresAt = Number(element.dataset.expiresAt);
    if (element.tagName === "PROGRESS") element.value = Math.max(0, expiresAt - Date.now() / 1000);
    else element.textContent = timeLeftText(expiresAt);
  }
}

/* The request log */

function hopCard(hop, plainStatus) {
  return create("article", { className: "hop" },
    create("h3", {}, `${hop.from} → ${hop.to}`, chip(hop.status), create("small", {}, `${hop.milliseconds} ms`)),
    plainStatus && create("p", { className: "plain" }, "A plain PyJWT decorator answers", chip(plainStatus),
      create("a", { href: "text/example_app/plain.py", target: "_blank" }, "plain.py")),
    create("div", { className: "exchange" },
      create("div", {}, create("h4", {}, "Request"), create("pre", {}, hop.request.join("\n"))),
      create("div", {}, create("h4", {}, "Response"), create("pre", {}, [...hop.response, "", pretty(hop.body)].join("\n"))),
    ),
    hop.sent_by && codeLine("Sent by", hop.sent_by),
    hop.line && codeLine("Matched guard", hop.line),
    hop.token && tokenDetails(hop.token),
  );
}

function codeLine(title, line) {
  return create("div", { className: "guard" },
    create("h4", {}, title, create("small", {}, `services.py, line ${line.number}`)),
    create("pre", {}, line.text),
  );
}

function chip(status) {
  return create("span", { className: `chip s${status / 100 | 0}` }, String(status));
}

function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

function tokenDetails(token) {
  const bar = create("progress", { max: token.lifetime });
  bar.dataset.expiresAt = token.expires_at;
  bar.setAttribute("aria-label", "time left");
  const rows = token.claims.map((claim) => create("tr", {},
    create("th", { scope: "row" }, claim.name),
    create("td", {}, claimText(claim)),
    create("td", {}, claim.meaning),
  ));
  const head = create("thead", {}, create("tr", {}, ...["claim", "value", "meaning"].map(
    (title) => create("th", { scope: "col" }, title))));
  return create("details", { className: "token" },
    create("summary", {}, "Token ", create("code", {}, token.short), ", ", timeLeft(token.expires_at)),
    bar,
    create("table", {}, create("caption", {}, `Claims. Signed with the key ${token.kid}.`), head,
      create("tbody", {}, ...rows)),
  );
}

function claimText({ name, value }) {
  if (!["exp", "iat", "auth_time"].includes(name)) return typeof value === "string" ? value : JSON.stringify(value);
  return `${value} (${new Date(value * 1000).toLocaleTimeString()})`;
}

function showSummary(...sentences) {
  byId("summary").textContent = sentences.filter(Boolean).join(" ");
}

/* Buttons: one action at a time, in the order in which they are pressed */

let last = Promise.resolve();

function press(button, action) {
  button.setAttribute("aria-busy", "true");
  last = last.then(action).catch((error) => showSummary(error.message)).finally(() => {
    button.removeAttribute("aria-busy");
    countDown();
  });
}

async function call(button, key = button.dataset.call) {
  const result = await send(`calls/${key}`, {});
  setCurrent(button);
  byId("hops").replaceChildren(...result.hops.map(
    (hop, index) => hopCard(hop, index === 0 ? result.plain_status : null)));
  showArrows(result.hops);
  showState(result.state);
  showSummary(result.prepared, ...result.summary);
  return result.hops[0].status;
}

function setCurrent(button) {
  document.querySelector("[aria-current]")?.removeAttribute("aria-current");
  button?.setAttribute("aria-current", "true");
}

async function turnPool(on) {
  const result = await send("switches/pool", { on });
  showState(result.state);
  showSummary(result.message);
}

const STEPS = {
  call: (button) => call(button, "read"),
  outage: () => turnPool(false),
  again: (button) => call(button, "read"),
  "new-key": (button) => call(button, "no-keys"),
  async recovery(button) {
    await turnPool(true);
    const until = Date.now() + 30000; // longer than any Retry-After here
    while (await call(button, "newest-key") !== 200 && Date.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  },
};

async function step(button) {
  await STEPS[button.dataset.step](button);
  setCurrent(button);
  button.classList.add("done");
}

async function burst() {
  const result = await send("burst", {});
  const [statuses, plain] = [result.statuses, result.plain_statuses].map(
    (each) => Object.entries(each).map(([status, count]) => `${count} × ${status}`).join(", "));
  const figures = { "Orders": statuses, "Plain decorator": plain, "p50": `${result.p50} ms`, "p99": `${result.p99} ms`,
    "Token requests": result.token_requests, "Key downloads": result.key_downloads };
  byId("hops").replaceChildren(create("dl", { className: "figures" }, ...Object.entries(figures).map(
    ([title, figure]) => create("div", {}, create("dt", {}, title), create("dd", {}, String(figure))))));
  setCurrent(null);
  showArrows([]);
  showState(result.state);
  showSummary(`100 calls from 8 threads: ${statuses}. p50 ${result.p50} ms, p99 ${result.p99} ms.`,
    `The plain decorator: ${plain}.`, result.pool);
}

async function turn(button) {
  const on = button.getAttribute("aria-checked") !== "true";
  const result = await send(`switches/${button.dataset.switch}`, { on });
  showState(result.state);
  showSummary(result.message);
}

for (const button of document.querySelectorAll("[data-call]")) {
  button.addEventListener("click", () => press(button, () => call(button)));
}
for (const button of document.querySelectorAll("[data-switch]")) {
  button.addEventListener("click", () => press(button, () => turn(button)));
}

for (const button of document.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => press(button, () => step(button)));
}
document.querySelector("[data-burst]").addEventListener("click", ({ currentTarget }) => press(currentTarget, burst));

/* Tabs: the arrow keys, Home and End move between them */

const tabs = [...document.querySelectorAll("[role=tab]")];

function select(tab) {
  for (const each of tabs) {
    each.setAttribute("aria-selected", String(each === tab));
    each.tabIndex = each === tab ? 0 : -1;
    byId(each.getAttribute("aria-controls")).hidden = each !== tab;
  }
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const next = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: -1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const chosen = tabs.at(next % tabs.length);
    select(chosen);
    chosen.focus();
  });
}

async function refreshState() {
  if (document.hidden) return;
  const stopped = "The example has stopped. Start it again in the terminal.";
  await send("state").then(showState).catch(() => showSummary(stopped));
}

/* The height of what sticks to the top: all of the stage, or its upper part in a narrow window */
const sticky = [byId("stage"), document.querySelector(".pinned")];
const observer = new ResizeObserver(() => document.documentElement.style.setProperty(
  "--stage", `${Math.max(...sticky.map((element) => element.offsetHeight))}px`));
for (const element of sticky) observer.observe(element);

refreshState();
setInterval(refreshState, 2000);
setInterval(countDown, 1000);
