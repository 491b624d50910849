// The form that makes a run file.

import { fetchPart, fill, follow, say } from "/static/studio.js";

const made = document.getElementById("new");
const [answer, button, demo] = ["answer", "make", "demo"].map((id) => document.getElementById(id));
const name = document.getElementById("as");
let named = false;
name.addEventListener("input", () => (named = name.value !== ""));
const propose = () => {
  if (!named) name.value = `${made.elements.mode.value}.toml`;
  for (const id of ["model", "data", "memory"]) document.getElementById(id).disabled = demo.checked;
};
made.addEventListener("change", propose);
propose();
made.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new URLSearchParams({ model: "", data: "", memory: "" });
  for (const [key, value] of new FormData(made)) fields.set(key, value);
  button.disabled = true;
  try {
    const found = JSON.parse((await fetchPart("/run-file/new", { method: "POST", body: fields })).text);
    fill(answer, found.refused || "");
    if (found.made) await follow(found.made, answer);
  } catch {
    say("The studio's server does not answer.");
  } finally {
    button.disabled = false;
  }
});
