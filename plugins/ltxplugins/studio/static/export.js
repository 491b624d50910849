import { fetchPart, fill } from "/static/studio.js";

// What the chosen LoRA and program take is shown as soon as one chooses them.
document.addEventListener("change", async (event) => {
  const form = event.target.form;
  if (event.target.id !== "export-lora" && event.target.name !== "target") return;
  const asked = new URLSearchParams({ lora: form.elements.lora.value, target: form.elements.target.value });
  const part = await fetchPart(`/export/target?${asked}`);
  if (part.ok) fill(document.getElementById("export-target"), part.text);
});

// A job that was added is listed at once.
document.addEventListener("part", async (event) => {
  if (!event.target.classList.contains("said")) return;
  const part = await fetchPart("/export/jobs");
  if (part.ok) fill(document.getElementById("export-jobs"), part.text);
});
