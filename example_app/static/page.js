"use strict";

const byId = (id) => document.getElementById(id);

/* An element with these properties and children; text is text, never markup. */
function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

async function asked(path, content) {
  const options = content === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  };
  const reply = await fetch(path, options);
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(answer.detail || `The page's server answered ${reply.status}.`);
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
    byId("orders-token").replaceChildren("its token: ", timeLeft(state.orders_token.ends_at));
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
    arrow.querySelector(".said").textContent = hop ? hop.request[0].replace(" HTTP/1.1", "") : "\u00a0";
    arrow.querySelector(".status").textContent = hop ? hop.status : "\u00a0";
  }
}

/* Time left, counted down once a second wherever it is shown */

function timeLeft(endsAt) {
  const element = made("span", { className: "left" });
  element.dataset.endsAt = endsAt;
  element.textContent = timeLeftText(endsAt);
  return element;
}

function timeLeftText(endsAt) {
  const seconds = Math.round(endsAt - Date.now() / 1000);
  if (seconds < 0) return `ended ${-seconds} s ago`;
  return seconds < 100 ? `${seconds} s left` : `${Math.round(seconds / 60)} min left`;
}

function countDown() {
  for (const element of document.querySelectorAll("[data-ends-at]")) {
    const endsAt = Number(element.dataset.endsAt);
    if (element.tagName === "PROGRESS") element.value = Math.max(0, endsAt - Date.now() / 1000);
    else element.textContent = timeLeftText(endsAt);
  }
}

/* What happened */

function hopCard(hop) {
  return made("article", { className: "hop" },
    made("h3", {}, `${hop.from} → ${hop.to}`, chip(hop.status), made("small", {}, `${hop.milliseconds} ms`)),
    made("div", { className: "exchange" },
      made("div", {}, made("h4", {}, "Request"), made("pre", {}, hop.request.join("\n"))),
      made("div", {}, made("h4", {}, "Answer"), made("pre", {}, [...hop.answer, "", pretty(hop.body)].join("\n"))),
    ),
    hop.line && made("div", { className: "because" },
      made("h4", {}, "Because of", made("small", {}, `services.py, line ${hop.line.number}`)),
      made("pre", {}, hop.line.text),
    ),
    hop.token && tokenDetails(hop.token),
  );
}

function chip(status) {
  return made("span", { className: `chip s${status / 100 | 0}` }, String(status));
}

function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

function tokenDetails(token) {
  const bar = made("progress", { max: token.life });
  bar.dataset.endsAt = token.ends_at;
  bar.setAttribute("aria-label", "time left");
  const rows = token.claims.map((claim) => made("tr", {},
    made("th", { scope: "row" }, claim.name),
    made("td", {}, claimText(claim)),
    made("td", {}, claim.meaning),
  ));
  const head = made("thead", {}, made("tr", {}, ...["claim", "value", "meaning"].map(
    (title) => made("th", { scope: "col" }, title))));
  return made("details", { className: "token", open: true },
    made("summary", {}, "Its token ", made("code", {}, token.short), ", ", timeLeft(token.ends_at)),
    bar,
    made("table", {}, made("caption", {}, `Signed by the key ${token.kid}. What it claims:`), head,
      made("tbody", {}, ...rows)),
  );
}

function claimText({ name, value }) {
  if (!["exp", "iat", "auth_time"].includes(name)) return typeof value === "string" ? value : JSON.stringify(value);
  return `${value} (${new Date(value * 1000).toLocaleTimeString()})`;
}

function say(...sentences) {
  byId("summary").textContent = sentences.filter(Boolean).join(" ");
}

/* Buttons: one thing at a time, in the order in which they are pressed */

let last = Promise.resolve();

function press(button, deed) {
  button.setAttribute("aria-busy", "true");
  last = last.then(deed).catch((error) => say(error.message)).finally(() => {
    button.removeAttribute("aria-busy");
    countDown();
  });
}

async function call(button) {
  const told = await asked(`calls/${button.dataset.call}`, {});
  document.querySelector("[aria-current]")?.removeAttribute("aria-current");
  button.setAttribute("aria-current", "true");
  byId("hops").replaceChildren(...told.hops.map(hopCard));
  showArrows(told.hops);
  showState(told.state);
  say(told.prepared, ...told.summary);
}

async function turn(button) {
  const on = button.getAttribute("aria-checked") !== "true";
  const told = await asked(`switches/${button.dataset.switch}`, { on });
  showState(told.state);
  say(told.said);
}

for (const button of document.querySelectorAll("[data-call]")) {
  button.addEventListener("click", () => press(button, () => call(button)));
}
for (const button of document.querySelectorAll("[data-switch]")) {
  button.addEventListener("click", () => press(button, () => turn(button)));
}

async function look() {
  if (document.hidden) return;
  await asked("state").then(showState).catch(() => say("The example has ended. Start it again in the terminal."));
}

look();
setInterval(look, 2000);
setInterval(countDown, 1000);
