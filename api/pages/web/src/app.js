// What every page does with JavaScript: live updates, the banner about stale data or a lost link, the urgent sound.
// Without this file the pages work all the same: each of them is a whole document, each action a plain form.
import htmx from "htmx.org";

const LINK_LOST_MS = 25_000; // the server says something at least every 10 s
const REOPEN_MS = 3_000;
const REFRESH_MS = 900;

const page = document.documentElement;
let heard = Date.now();
let source = null;
let refreshAt = 0;
let waiting = null;
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
  return active && live.contains(active) && /^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName);
};
addEventListener("input", (event) => {
  const form = event.target.closest?.("#live form");
  if (form) form.dataset.edited = "true";
});

const refresh = () => {
  if (waiting) return;
  const wait = Math.max(0, refreshAt - Date.now());
  waiting = setTimeout(async () => {
    waiting = null;
    if (busy() || document.hidden) { refreshAt = Date.now() + REFRESH_MS; waiting = null; return refresh(); }
    refreshAt = Date.now() + REFRESH_MS;
    try {
      await htmx.ajax("GET", location.pathname + location.search, { target: "#live", select: "#live", swap: "outerHTML" });
    } catch { /* the banner tells of a lost link */ }
  }, document.hidden ? REFRESH_MS : wait);
};

// -- the stream of events
const listen = () => {
  source = new EventSource("/events");
  const seen = () => { heard = Date.now(); show("link-lost", false); };
  source.addEventListener("hello", (event) => { seen(); stale(event); });
  source.addEventListener("beat", (event) => { seen(); stale(event); });
  source.addEventListener("resync", () => { seen(); refresh(); });
  source.addEventListener("bye", () => { source.close(); location.reload(); });
  source.addEventListener("change", (event) => {
    seen();
    const change = JSON.parse(event.data);
    const wanted = (document.getElementById("live")?.dataset.topics ?? "").split(" ");
    if (change.topics.some((topic) => wanted.includes(topic))) refresh();
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
  if (source.readyState === EventSource.CLOSED) { refresh(); listen(); }
});

const stale = (event) => {
  const said = JSON.parse(event.data);
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
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("#sound");
  if (!button) return;
  audio = audio ? (audio.close(), null) : new AudioContext();
  button.setAttribute("aria-pressed", String(Boolean(audio)));
  if (audio) sound();
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
