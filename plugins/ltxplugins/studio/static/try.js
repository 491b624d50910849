import { fetchPart, say } from "/static/studio.js";

const form = () => document.getElementById("try-fields");

// ---- the form

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.closest?.("#try-fields")) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    form().requestSubmit(document.getElementById("try-generate"));
  } else if (event.target.matches("input:not([type=file])")) {
    event.preventDefault(); // a line of text is no button
  }
});

// A second button that is pressed before the first is answered would send a form that is about to change.
document.addEventListener("submit", (event) => {
  if (event.target.id === "try-fields" && document.getElementById("try-form").getAttribute("aria-busy") === "true") {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}, true);

document.addEventListener("input", (event) => {
  const { target } = event;
  if (target.dataset.of) document.getElementById(target.dataset.of).value = target.value;
  const slider = target.name === "strength" && document.querySelector(`[data-of="${target.id}"]`);
  if (slider && Number.isFinite(Number(target.value))) slider.value = target.value;
});

document.addEventListener("click", (event) => {
  if (event.target.id !== "try-new-seed") return;
  const seed = document.getElementById("try-seed");
  seed.value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
  say(`The seed is ${seed.value}.`);
});

let moreIsOpen = false;
document.addEventListener("toggle", (event) => {
  if (event.target.id === "try-more") moreIsOpen = event.target.open;
}, true);

// ---- the results: an article that is there already stays as it is, so that what plays goes on

async function refreshHistory() {
  const part = await fetchPart("/try/history");
  if (!part.ok) return;
  const fresh = document.createElement("div");
  fresh.innerHTML = part.text;
  const place = document.getElementById("try-history");
  for (const article of fresh.querySelectorAll("article")) {
    const old = document.getElementById(article.id);
    if (old && place.contains(old)) article.replaceWith(old);
  }
  place.lastHtml = undefined;
  place.replaceChildren(...fresh.childNodes);
}

let count = document.querySelector("#try-now [data-count]")?.dataset.count;
document.addEventListener("part", (event) => {
  if (event.target.id === "try-form") {
    const more = document.getElementById("try-more");
    if (more) more.open = moreIsOpen;
    fetchPart("/try/now").then((part) => {
      const now = document.getElementById("try-now");
      if (part.ok && now.lastHtml !== part.text) {
        now.lastHtml = part.text;
        now.innerHTML = part.text;
      }
    });
  }
  if (event.target.id === "try-now") {
    const found = event.target.querySelector("[data-count]")?.dataset.count;
    if (found !== undefined && found !== count) {
      count = found;
      refreshHistory();
    }
  }
});
if (document.getElementById("try-paint")) import("/static/try-editor.js");
