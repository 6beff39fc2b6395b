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

function hopCard(hop) {
  return create("article", { className: "hop" },
    create("h3", {}, `${hop.from} → ${hop.to}`, chip(hop.status), create("small", {}, `${hop.milliseconds} ms`)),
    create("div", { className: "exchange" },
      create("div", {}, create("h4", {}, "Request"), create("pre", {}, hop.request.join("\n"))),
      create("div", {}, create("h4", {}, "Response"), create("pre", {}, [...hop.response, "", pretty(hop.body)].join("\n"))),
    ),
    hop.line && create("div", { className: "guard" },
      create("h4", {}, "Matched guard", create("small", {}, `services.py, line ${hop.line.number}`)),
      create("pre", {}, hop.line.text),
    ),
    hop.token && tokenDetails(hop.token),
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
  return create("details", { className: "token", open: true },
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

async function call(button) {
  const result = await send(`calls/${button.dataset.call}`, {});
  document.querySelector("[aria-current]")?.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  byId("hops").replaceChildren(...result.hops.map(hopCard));
  showArrows(result.hops);
  showState(result.state);
  showSummary(result.prepared, ...result.summary);
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

async function refreshState() {
  if (document.hidden) return;
  const stopped = "The example has stopped. Start it again in the terminal.";
  await send("state").then(showState).catch(() => showSummary(stopped));
}

refreshState();
setInterval(refreshState, 2000);
setInterval(countDown, 1000);
