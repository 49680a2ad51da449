// What every page does with JavaScript: live updates, the banner about stale data or a lost link, the urgent sound.
// Without this file the pages work all the same: each of them is a whole document, each action a plain form.
import htmx from "htmx.org";

const LINK_LOST_MS = 25_000; // the server says something at least every 10 s
const REOPEN_MS = 3_000;
const AGAIN_MS = 5_000; // after a page that could not be fetched
const CLICK_MS = 3_000; // no press that is a click lasts longer
const HELD_MS = 10_000;
const SOON_MS = 250;
const SETTLE_MS = 1_500;
const SOUND = "metergate-sound";

let pace = 900; // the server says how often a page may renew itself: less often where many watch
const page = document.documentElement;
let heard = Date.now();
let source = null;
let lastAt = 0;
let waiting = null;
let dueAt = 0;
let settling = null;
let audio = null;
let greeted = false; // what comes before the greeting of a stream happened while the page was loaded or the link away
let unsure = false; // it may stand here already
let renewing = false;
let failed = false;
let heldAt = 0;
let asLoaded = document.getElementById("live")?.outerHTML;

const show = (id, on, text) => {
  const element = document.getElementById(id);
  if (!element) return;
  if (text !== undefined && element.lastElementChild) element.lastElementChild.textContent = text;
  element.hidden = !on;
};

// -- what is shown is fetched anew, not more than about once a second, and never while somebody types in it
let pressedAt = 0; // a button that is replaced between press and release would lose its click
addEventListener("pointerdown", () => { pressedAt = Date.now(); }, true); // menus and lists of choices swallow releases
for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => { setTimeout(() => { pressedAt = 0; }, 50); }, true);

const busy = () => {
  if (Date.now() - pressedAt < CLICK_MS) return true;
  const live = document.getElementById("live");
  const active = document.activeElement;
  if (!live) return false;
  if (live.querySelector("form[data-edited]")) return true; // typed and not sent: it stays, whatever happens elsewhere
  const typing = active && active.type !== "checkbox" && /^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName);
  return typing && live.contains(active);
};
addEventListener("input", (event) => {
  const form = event.target.closest?.("#live form");
  if (form) form.dataset.edited = "true";
});

// what a person ticked and unfolded outlives a renewal
const kept = () => [...document.querySelectorAll("#live details[open][id], #live input:checked[id]")].map((element) => element.id);
const focused = () => { // what has no id is found again by what it says and where it leads
  const active = document.activeElement;
  if (!active || active.id || !document.getElementById("live")?.contains(active)) return null;
  const like = (element) => element.getAttribute("href") ?? element.getAttribute("aria-label") ?? element.textContent;
  const name = like(active), among = () => [...document.querySelectorAll(`#live ${active.tagName}`)].filter((element) => like(element) === name);
  const place = among().indexOf(active);
  return () => among()[place]?.focus({ preventScroll: true });
};
const keep = (ids) => {
  for (const id of ids) {
    const element = document.getElementById(id);
    if (element?.tagName === "DETAILS") element.open = true;
    else if (element) element.checked = true;
  }
};

const renew = async () => {
  waiting = null;
  lastAt = Date.now();
  if (document.hidden) { refresh(pace); return; }
  if (busy()) { hold(); return; }
  renewing = true;
  failed = false;
  try {
    await htmx.ajax("GET", location.pathname + location.search, { target: "#live", select: "#live", swap: "outerHTML" });
  } catch { failed = true; /* the banner tells of a lost link */ } finally { renewing = false; }
  if (failed) refresh(AGAIN_MS);
};

// new things wait until nobody types any more; after a while the page says so
const hold = () => {
  heldAt = heldAt || Date.now();
  if (Date.now() - heldAt > HELD_MS) show("held", true);
  refresh(pace);
};

// between the question and its answer somebody may have begun to type, ticked or unfolded something
const settleIn = (event) => {
  const fresh = new DOMParser().parseFromString(event.detail.serverResponse, "text/html");
  const time = document.querySelector("footer time"), now = fresh.querySelector("footer time");
  if (busy()) { event.detail.shouldSwap = false; hold(); return; }
  heldAt = 0;
  show("held", false);
  if (time && now) time.textContent = now.textContent;
  if (unsure && asLoaded === fresh.getElementById("live")?.outerHTML) { event.detail.shouldSwap = false; return; }
  const ids = kept(), again = focused();
  document.addEventListener("htmx:afterSettle", () => { keep(ids); again?.(); }, { once: true });
};

// gap: at least so long after the last renewal; whoever asks for less time wins
const refresh = (gap) => {
  const at = Math.max(Date.now(), lastAt + gap);
  if (waiting) {
    if (at >= dueAt) return;
    clearTimeout(waiting);
  }
  dueAt = at;
  waiting = setTimeout(renew, at - Date.now());
};

// figures that many share are worked out once a second: the last change is looked at again when that is over
const settle = () => { clearTimeout(settling); settling = setTimeout(() => refresh(0), SETTLE_MS); };

// -- the stream of events
const stream = () => {
  const { meter, seen } = document.getElementById("live").dataset;
  const since = document.getElementById("main").dataset.place ?? "";
  return `/events?${new URLSearchParams(meter ? { since, meter, seen: seen || "0" } : { since })}`;
};

const listen = () => {
  source = new EventSource(stream());
  greeted = false;
  const seen = () => { heard = Date.now(); show("link-lost", false); };
  source.addEventListener("hello", (event) => { greeted = true; seen(); stale(event); });
  source.addEventListener("beat", (event) => { seen(); stale(event); });
  source.addEventListener("resync", () => { seen(); unsure = true; refresh(0); });
  source.addEventListener("bye", () => { source.close(); leave(); });
  source.addEventListener("change", (event) => {
    seen();
    const change = JSON.parse(event.data);
    const wanted = (document.getElementById("live")?.dataset.topics ?? "").split(" ");
    unsure = !greeted;
    const told = change.topics.filter((topic) => wanted.includes(topic));
    if (told.length) { refresh(told.includes("meter") ? SOON_MS : pace); settle(); }
    if (change.urgent) sound();
  });
  source.onerror = async () => {
    greeted = false;
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    if (await session() === null) leave();
    else setTimeout(() => { if (!document.hidden && source.readyState === EventSource.CLOSED) listen(); }, REOPEN_MS);
  };
};

// null: the login is over; undefined: nobody knows
const session = async () => {
  try {
    const answer = await fetch("/api/v1/session", { headers: { accept: "application/json" } });
    return answer.ok ? await answer.json() : answer.status === 401 ? null : undefined;
  } catch { return undefined; }
};

// a page whose login is over goes to the login, but what somebody typed stays: after a login beside it, it can be sent
let leaving = null;
const leave = async () => {
  clearTimeout(leaving);
  if (!document.querySelector("#live form[data-edited]")) { location.reload(); return; }
  show("login-over", true);
  const known = await session();
  if (!known) { clearTimeout(leaving); leaving = setTimeout(leave, AGAIN_MS); return; }
  if (known.name !== `user:${document.querySelector("header a[href='/account']")?.textContent}`) { location.reload(); return; }
  for (const field of document.querySelectorAll("input[name=csrf_token]")) field.value = known.csrf_token;
  show("login-over", false);
  if (source?.readyState === EventSource.CLOSED) listen();
};

// a browser opens six connections to one host and no more: pages that nobody sees give theirs back
document.addEventListener("visibilitychange", () => {
  if (!source || audio) return;
  if (document.hidden) { source.close(); return; }
  if (source.readyState === EventSource.CLOSED) { heard = Date.now(); refresh(0); listen(); }
});

const stale = (event) => {
  const said = JSON.parse(event.data);
  pace = said.pace ?? pace;
  show("data-stale", said.stale.length > 0, said.stale.join("; "));
};

// -- a short sound for a new urgent alarm, only where somebody switched it on
const sound = () => {
  if (!audio) return;
  const start = audio.currentTime;
  for (const [at, pitch] of [[0, 880], [0.25, 660], [0.5, 880]]) {
    const tone = audio.createOscillator();
    const volume = audio.createGain();
    volume.gain.value = 0.15;
    tone.frequency.value = pitch;
    tone.connect(volume).connect(audio.destination);
    tone.start(start + at);
    tone.stop(start + at + 0.2);
  }
};
const sounding = (on) => {
  audio = on ? new AudioContext() : (audio?.close(), null);
  document.getElementById("sound")?.setAttribute("aria-pressed", String(on));
  show("sound-waits", false);
};
const remembered = () => { try { return localStorage.getItem(SOUND) === "on"; } catch { return false; } };
document.addEventListener("click", (event) => {
  if (!event.target.closest?.("#sound")) return;
  const on = !audio;
  sounding(on);
  try { localStorage.setItem(SOUND, on ? "on" : "off"); } catch { /* it is then kept for this page alone */ }
  if (on) sound();
});
// a browser lets no page sound before a person touched it: the choice is remembered, the sound begins with a touch
const begin = (event) => {
  removeEventListener("pointerdown", begin, true);
  removeEventListener("keydown", begin, true);
  if (!audio && remembered() && !event.target.closest?.("#sound")) sounding(true);
};
if (remembered()) {
  show("sound-waits", true);
  addEventListener("pointerdown", begin, true);
  addEventListener("keydown", begin, true);
}

document.addEventListener("click", (event) => {
  if (!event.target.closest?.("#pick-all")) return;
  const boxes = [...document.querySelectorAll("input[name=pick]")];
  const all = boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = !all;
});

setInterval(() => { if (!document.hidden && Date.now() - heard > LINK_LOST_MS) show("link-lost", true); }, 1000);
addEventListener("offline", () => show("link-lost", true));
document.addEventListener("htmx:sendError", () => { failed = true; show("link-lost", true); });
document.addEventListener("htmx:responseError", (event) => { failed = true; if (event.detail.xhr.status === 401) leave(); });
// a refused action answers with a page that says why; an ended login with the page of the login
document.addEventListener("htmx:beforeSwap", (event) => {
  if (new URL(event.detail.xhr.responseURL, location.href).pathname === "/login") { event.detail.shouldSwap = false; leave(); return; }
  if (event.detail.xhr.status >= 400) return;
  if (renewing && event.detail.requestConfig.verb === "get") settleIn(event);
  if (event.detail.shouldSwap) asLoaded = null;
});

page.classList.add("scripted");
for (const element of document.querySelectorAll("[data-scripted]")) element.hidden = false;
if (document.getElementById("live")?.dataset.topics) listen();
