// What every page does with JavaScript: live updates, the banner about stale data or a lost link, the urgent sound.
// Without this file the pages work all the same: each of them is a whole document, each action a plain form.
import htmx from "htmx.org";

const LINK_LOST_MS = 25_000; // the server says something at least every 10 s
const REOPEN_MS = 3_000;
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

const show = (id, on, text) => {
  const element = document.getElementById(id);
  if (!element) return;
  if (text !== undefined && element.lastElementChild) element.lastElementChild.textContent = text;
  element.hidden = !on;
};

// -- what is shown is fetched anew, not more than about once a second, and never while somebody types in it
let pressed = false; // a button that is replaced between press and release would lose its click
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => { setTimeout(() => { pressed = false; }, 50); }, true);

const busy = () => {
  if (pressed) return true;
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
const keep = (ids) => {
  for (const id of ids) {
    const element = document.getElementById(id);
    if (element?.tagName === "DETAILS") element.open = true;
    else if (element) element.checked = true;
  }
};

const renew = async () => {
  waiting = null;
  const held = busy() || document.hidden;
  lastAt = Date.now();
  if (held) { refresh(pace); return; }
  const ids = kept();
  try {
    await htmx.ajax("GET", location.pathname + location.search, { target: "#live", select: "#live", swap: "outerHTML" });
    keep(ids);
  } catch { /* the banner tells of a lost link */ }
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
  return meter ? `/events?${new URLSearchParams({ meter, seen: seen || "0" })}` : "/events";
};

const listen = () => {
  source = new EventSource(stream());
  const seen = () => { heard = Date.now(); show("link-lost", false); };
  source.addEventListener("hello", (event) => { seen(); stale(event); });
  source.addEventListener("beat", (event) => { seen(); stale(event); });
  source.addEventListener("resync", () => { seen(); refresh(0); });
  source.addEventListener("bye", () => { source.close(); location.reload(); });
  source.addEventListener("change", (event) => {
    seen();
    const change = JSON.parse(event.data);
    const wanted = (document.getElementById("live")?.dataset.topics ?? "").split(" ");
    const told = change.topics.filter((topic) => wanted.includes(topic));
    if (told.length) { refresh(told.includes("meter") ? SOON_MS : pace); settle(); }
    if (change.urgent) sound();
  });
  source.onerror = async () => {
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    if (await ended()) location.reload(); // and lands at the login
    else setTimeout(listen, REOPEN_MS);
  };
};

const ended = async () => {
  try { return (await fetch("/api/v1/session", { headers: { accept: "application/json" } })).status === 401; } catch { return false; }
};

// a browser opens six connections to one host and no more: pages that nobody sees give theirs back
document.addEventListener("visibilitychange", () => {
  if (!source || audio) return;
  if (document.hidden) { source.close(); return; }
  if (source.readyState === EventSource.CLOSED) { refresh(0); listen(); }
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
document.addEventListener("htmx:sendError", () => show("link-lost", true));
document.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status === 401) location.reload(); });
// a refused action answers with a page that says why; an ended login with the page of the login
document.addEventListener("htmx:beforeSwap", (event) => {
  if (new URL(event.detail.xhr.responseURL, location.href).pathname === "/login") { event.detail.shouldSwap = false; location.assign("/login"); }
});

page.classList.add("scripted");
for (const element of document.querySelectorAll("[data-scripted]")) element.hidden = false;
if (document.getElementById("live")?.dataset.topics) listen();
