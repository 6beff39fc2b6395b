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

/* The timeline: three lanes, with the newest entries on the right */

const LANES = { orders: 11, inventory: 33, pool: 55 };
const SHAPES = { s2: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", s4: "M0-6L6 0L0 6L-6 0z", s5: "M-5-5L5 5M5-5L-5 5", fetch: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z" };

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function showTimeline({ now, longest, calls, marks, outages }) {
  const first = Math.min(now, ...[...calls, ...marks].map((each) => each.at), ...outages.map((each) => each.start));
  const span = Math.min(longest, Math.max(30, now - first + 3));
  const percent = (at) => 98 * Math.max(0, 1 - (now - at) / span);
  const x = (at) => `${percent(at)}%`;
  const shape = (at, y, kind, title) => draw("svg", { x: x(at), y, overflow: "visible" },
    draw("path", { class: kind, d: SHAPES[kind] }, draw("title", {}, title)));
  byId("timeline").replaceChildren(
    ...outages.map(({ start, end }) => draw("rect", { class: "outage", x: x(start), y: 0, height: 66,
      width: `${(end ? percent(end) : 100) - percent(start)}%` }, draw("title", {}, "The pool is off"))),
    ...Object.values(LANES).map((y) => draw("line", { x1: 0, x2: "100%", y1: y, y2: y })),
    ...marks.filter(({ kind }) => kind !== "fetch").map(({ at, label }) => draw("line", { class: "event", x1: x(at), x2: x(at), y1: 0, y2: 66 },
      draw("title", {}, label))),
    ...marks.filter(({ kind }) => kind === "fetch").map(({ at, label }) => shape(at, LANES.pool, "fetch", label)),
    ...calls.map(({ at, service, status }) => shape(at, LANES[service], `s${status / 100 | 0}`, `${service}: ${status}`)),
  );
  byId("timeline-text").textContent = timelineText({ now, calls, outages }, Math.round(span));
}

function timelineText({ now, calls, outages }, span) {
  const accepted = (some) => `${some.length} request${some.length === 1 ? "" : "s"}, ${some.filter((each) => each.status < 300).length} accepted`;
  const outage = outages.at(-1);
  if (!outage) return `Last ${span} s: ${accepted(calls)}.`;
  const during = calls.filter(({ at }) => at >= outage.start && at <= (outage.end ?? now));
  return `Last ${span} s: ${accepted(calls)}. Outage of ${Math.round((outage.end ?? now) - outage.start)} s: ${accepted(during)}.`;
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
    create("div", { className: "exchange" },
      create("div", {}, create("h4", {}, "Request"), create("pre", {}, hop.request.join("\n"))),
      create("div", {}, create("h4", {}, "Response"), create("pre", {}, [...hop.response, "", pretty(hop.body)].join("\n"))),
    ),
    plainStatus && create("p", { className: "plain" }, "A plain PyJWT decorator answers", chip(plainStatus),
      create("a", { href: "text/example_app/plain.py", target: "_blank" }, "plain.py")),
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
  const statuses = Object.entries(result.statuses).map(([status, count]) => `${count} × ${status}`).join(", ");
  const figures = { "Statuses": statuses, "p50": `${result.p50} ms`, "p99": `${result.p99} ms`,
    "Token requests": result.token_requests, "Key downloads": result.key_downloads };
  byId("hops").replaceChildren(create("dl", { className: "figures" }, ...Object.entries(figures).map(
    ([title, figure]) => create("div", {}, create("dt", {}, title), create("dd", {}, String(figure))))));
  setCurrent(null);
  showArrows([]);
  showState(result.state);
  showSummary(`100 calls from 8 threads: ${statuses}. p50 ${result.p50} ms, p99 ${result.p99} ms.`, result.pool);
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

/* The height of what sticks to the top: all of the stage, or only the diagram in a narrow window */
const sticky = [byId("stage"), document.querySelector(".picture")];
const observer = new ResizeObserver(() => document.documentElement.style.setProperty(
  "--stage", `${Math.max(...sticky.map((element) => element.offsetHeight))}px`));
for (const element of sticky) observer.observe(element);

refreshState();
setInterval(refreshState, 2000);
setInterval(countDown, 1000);
