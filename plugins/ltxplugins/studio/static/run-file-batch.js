// The picture of the next batch of a run file.

import { fill, follow } from "/static/studio.js";

// Draw it on demand. `ask` asks the server, `act` shows that a button is busy, `ready` saves the text and says whether it could.
export function nextBatch(editor, ask, act, ready) {
  const batch = document.getElementById("batch");
  let drawing = 0;
  async function followBatch() {
    drawing += 1;
    const now = drawing;
    await follow(`/run-file/batch?name=${encodeURIComponent(editor.dataset.name)}`, batch, () => now !== drawing);
  }
  async function draw() {
    if (!(await ready())) return;
    const found = await ask("batch", {});
    fill(batch, found.html || found.refused);
    batch.scrollIntoView({ block: "nearest" });
    if (found.running) followBatch();
  }
  document.getElementById("look-ahead").addEventListener("click", ({ target }) => act(draw, target));
  batch.addEventListener("click", ({ target }) => {
    const job = target.closest("button")?.dataset.stop;
    if (job) act(async () => fill(batch, (await ask("batch-stop", { job })).html));
  });
  if (editor.dataset.batch) followBatch();
}
