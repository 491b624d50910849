// Cards are filled when they are seen, a few at a time; the next page of them is fetched when its button comes near.
import { fetchPart, fill, say, watch } from "/static/studio.js";

const AT_ONCE = 3;
const waiting = new Set();
const unsaved = new Set();
let busy = 0;
let still = matchMedia("(prefers-reduced-motion: reduce)").matches;

async function next() {
  if (busy >= AT_ONCE || !waiting.size) return;
  const card = waiting.values().next().value;
  waiting.delete(card);
  busy += 1;
  try {
    const part = await fetchPart(card.dataset.details);
    fill(card.querySelector(".details"), part.text);
  } catch {
    say("The studio's server does not answer.");
    card.removeAttribute("data-filled");
  } finally {
    busy -= 1;
    next();
  }
}

const cards = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) {
      if (waiting.delete(target)) target.removeAttribute("data-filled");
    } else if (!target.hasAttribute("data-filled")) {
      target.setAttribute("data-filled", "");
      waiting.add(target);
      next();
    }
  }
}, { rootMargin: "300px" });

const more = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) if (isIntersecting) show(target);
}, { rootMargin: "800px" });

async function show(button) {
  if (button.disabled) return;
  button.disabled = true;
  try {
    const part = await fetchPart(button.dataset.more);
    const made = document.createElement("div");
    made.innerHTML = part.text;
    const added = [...made.children];
    button.parentElement.replaceWith(...added);
    for (const element of added) look(element);
  } catch {
    button.disabled = false;
    say("The studio's server does not answer.");
  }
}

function hold(image) {
  const address = new URL(image.src);
  if (still === address.searchParams.has("still")) return;
  if (still) address.searchParams.set("still", "1");
  else address.searchParams.delete("still");
  image.src = address;
}

function look(within) {
  for (const card of within.querySelectorAll("[data-details]")) cards.observe(card);
  for (const button of within.querySelectorAll("[data-more]")) more.observe(button);
  for (const image of within.querySelectorAll("img.moving")) hold(image);
  watch(within);
}

function play(button) {
  const player = document.createElement(button.dataset.kind === "video" ? "video" : "audio");
  player.controls = true;
  player.autoplay = true;
  player.src = button.dataset.media;
  player.setAttribute("aria-label", button.getAttribute("aria-label"));
  player.addEventListener("error", () => {
    player.remove();
    button.hidden = false;
    say("This browser cannot play the file. ltx can: its thumbnail shows it.");
  });
  button.hidden = true;
  button.after(player);
  player.focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.more) show(button);
  if (button?.matches(".play")) play(button);
  if (button?.dataset.focus) document.getElementById(button.dataset.focus).focus();
  if (button?.dataset.press) {
    const out = document.getElementById(button.dataset.press);
    if (out?.value === "1") out.click();
    button.hidden = true;
  }
  if (button?.matches("[data-reload]")) location.reload();
  if (button?.id === "still") {
    still = !still;
    button.setAttribute("aria-pressed", String(still));
    document.querySelectorAll("img.moving").forEach(hold);
  }
});

document.addEventListener("input", (event) => {
  if (event.target.name !== "caption") return;
  const form = event.target.form;
  const changed = event.target.value !== form.elements.old.value;
  if (changed) unsaved.add(form);
  else unsaved.delete(form);
  form.querySelector("[role=status]").textContent = changed ? "Not saved yet" : "";
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.name === "caption") event.target.form.requestSubmit();
});

addEventListener("beforeunload", (event) => {
  if ([...unsaved].some((form) => form.isConnected)) event.preventDefault();
});

// Files that are dropped, one after the other; a folder is walked.
async function filesOf(entry, under = "") {
  if (entry.isFile) return [[under + entry.name, await new Promise((done, failed) => entry.file(done, failed))]];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const each of some) found.push(...await filesOf(each, `${under}${entry.name}/`));
  }
}

async function send(name, file, replace = "") {
  const query = new URLSearchParams({ folder: document.getElementById("add-folder").value, name, replace });
  const answer = await fetch(`/data/upload?${query}`, { method: "PUT", body: file });
  if (answer.status === 409 && !replace && confirm(`${name} is there already. Replace it?`)) return send(name, file, "1");
  return answer.ok ? "" : answer.text();
}

async function add(files) {
  const bar = document.getElementById("add-progress");
  const problems = document.getElementById("add-problems");
  document.getElementById("add").open = true;
  problems.replaceChildren();
  bar.hidden = false;
  bar.max = files.length;
  bar.value = 0;
  for (const [name, file] of files) {
    let problem;
    try {
      problem = await send(name, file);
    } catch {
      problem = `${name} was not copied: the studio's server does not answer.`;
    }
    if (problem) problems.appendChild(document.createElement("li")).textContent = problem;
    bar.value += 1;
  }
  if (problems.children.length) say("Some files were not copied.");
  else location.href = `/data?${new URLSearchParams({ data: document.getElementById("dataset").value || document.getElementById("add-folder").value })}`;
}

document.getElementById("add-files").addEventListener("change", (event) => add([...event.target.files].map((file) => [file.name, file])));
document.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
document.addEventListener("drop", async (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  add((await Promise.all(entries.map((entry) => filesOf(entry)))).flat());
});

// What is searched for is also what is changed, and what the doctor fits clips to.
function tell() {
  const asked = document.querySelector("form.tools")?.elements;
  for (const id of asked ? ["edit", "examine"] : []) {
    for (const name of ["search", "only", "buckets"]) {
      const field = document.getElementById(id).elements[name];
      if (field) field.value = asked[name].value;
    }
  }
}
document.querySelector("form.tools")?.addEventListener("input", tell);
tell();

document.addEventListener("part", (event) => look(event.target));
document.getElementById("still")?.setAttribute("aria-pressed", String(still));
look(document);
