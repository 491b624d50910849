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

// While a caption is being saved, its field takes no letters: the saved text takes its place in a moment.
document.addEventListener("beforeinput", (event) => {
  if (event.target.name === "caption" && event.target.closest("[aria-busy=true]")) event.preventDefault();
});

const hasUnsaved = () => [...unsaved].some((form) => form.isConnected);
addEventListener("beforeunload", (event) => {
  if (hasUnsaved()) event.preventDefault();
});
for (const [kind, way] of [["submit", "form.tools"], ["click", "a[data-into='#clips']"]]) {
  document.addEventListener(kind, (event) => {
    if (!event.target.closest(way) || !hasUnsaved() || confirm("Captions that are not saved yet will be lost. Show other clips?")) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
}

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

function isHidden(name) {
  return name.split("/").some((part) => part.startsWith("."));
}

function tellOf(text) {
  const line = document.createElement("li");
  line.textContent = text;
  document.getElementById("add-problems").append(line);
  return line;
}

async function add(dropped) {
  const files = dropped.filter(([name]) => !isHidden(name));
  const bar = document.getElementById("add-progress");
  document.getElementById("add").open = true;
  document.getElementById("add-problems").replaceChildren();
  if (!files.length) {
    tellOf("There are no files in it, or only hidden ones, which are not copied.");
    return;
  }
  bar.hidden = false;
  bar.max = files.length;
  bar.value = 0;
  let copied = 0;
  for (const [name, file] of files) {
    let problem;
    try {
      problem = await send(name, file);
    } catch {
      problem = `${name} was not copied: the studio's server does not answer.`;
    }
    if (problem) tellOf(problem);
    else copied += 1;
    bar.value += 1;
  }
  const dataset = document.getElementById("dataset").value || document.getElementById("add-folder").value;
  const shown = `/data?${new URLSearchParams({ data: dataset })}`;
  if (copied && copied === files.length) {
    location.href = shown;
    return;
  }
  bar.hidden = true;
  if (copied) {
    const link = document.createElement("a");
    link.href = shown;
    link.textContent = "Show the dataset with them";
    tellOf(`${copied} of ${files.length} files were copied. `).append(link);
  }
}

document.getElementById("add-files").addEventListener("change", (event) => add([...event.target.files].map((file) => [file.name, file])));
document.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
document.addEventListener("drop", async (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => [item.webkitGetAsEntry(), item.getAsFile()]);  // both are gone after the first wait
  try {
    add((await Promise.all(found.map(([entry, file]) => entry ? filesOf(entry) : [[file.name, file]]))).flat());
  } catch (error) {
    document.getElementById("add").open = true;
    tellOf(`Nothing was copied, since a file or folder cannot be read: ${error.message}`);
  }
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

// What the cards show is in the address, so that it is still there after a reload or a step back.
function remember(query) {
  history.replaceState(null, "", `/data?${query}`);
}
document.querySelector("form.tools")?.addEventListener("submit", (event) => {
  const filled = [...new FormData(event.target)].filter(([name, value]) => value && !(name === "order" && value === "dataset"));
  remember(new URLSearchParams(filled));
});
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[data-into="#clips"]');
  if (!link) return;
  const query = new URL(link.href).searchParams;
  for (const name of ["search", "order", "only"]) {
    const field = document.querySelector("form.tools").elements[name];
    field.value = query.get(name) ?? (name === "order" ? "dataset" : "");
  }
  tell();
  remember(query);
});

for (const each of document.querySelectorAll("[data-once]")) fetchPart(each.dataset.once).then((part) => part.ok && fill(each, part.text)).catch(() => {});

document.addEventListener("submit", ({ submitter }) => {  // after the listener of studio.js, which sends the form with its button
  if (submitter?.name !== "seen") return;
  submitter.disabled = true;
  document.querySelector("#preview [role=status]").textContent = "The captions are being written, which takes a minute for ten thousand. It goes on if you close this page.";
});

document.addEventListener("part", (event) => look(event.target));
document.getElementById("still")?.setAttribute("aria-pressed", String(still));
look(document);
