// The switches of the curves; a log that stays at its end; samples that are not replaced while they play.

import { fetchPart, fill } from "/static/studio.js";

const switches = document.getElementById("switches");
switches?.addEventListener("change", async () => {
  const chosen = new URLSearchParams(new FormData(switches));
  const curves = document.getElementById("curves");
  curves.dataset.poll = `${switches.dataset.curves}&${chosen}`;
  const part = await fetchPart(curves.dataset.poll);
  if (part.ok) fill(curves, part.text);
});

const away = new WeakSet(); // parts whose log the user has scrolled up
const isAtEnd = (log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 8;

function toEnd(part) {
  for (const log of part.querySelectorAll("pre.log")) if (!away.has(part)) log.scrollTop = log.scrollHeight;
}

document.addEventListener("scroll", (event) => {
  const log = event.target;
  if (!log.matches?.("pre.log")) return;
  const part = log.closest("[data-poll]");
  if (isAtEnd(log)) away.delete(part);
  else away.add(part);
}, true);
document.addEventListener("part", (event) => toEnd(event.target));
for (const log of document.querySelectorAll("pre.log")) toEnd(log.closest("[data-poll]"));

for (const kind of ["play", "pause", "ended"])
  document.addEventListener(kind, (event) => event.target.toggleAttribute("data-editing", kind === "play"), true);

// Opened tables stay open when the curves are drawn again.
const open = new Set();
document.addEventListener("toggle", (event) => {
  const name = event.target.querySelector?.("summary")?.textContent;
  if (!name || !event.target.isConnected) return;
  if (event.target.open) open.add(name);
  else open.delete(name);
}, true);
document.addEventListener("part", (event) => {
  for (const each of event.target.querySelectorAll("details")) each.open = open.has(each.querySelector("summary").textContent);
});
