// The plan of a run file, which is made anew after each change while a GPU is named.

import { fill, say } from "/static/studio.js";

// Return a function that plans `text` anew a while after its last call. `ask` asks the server, `change` changes the run file.
export function planner(text, ask, change) {
  const plan = document.getElementById("plan");
  const asks = ["gpu", "gpus", "model"].map((id) => document.getElementById(id));
  let timer = 0;
  let turn = 0;
  for (const each of asks) {
    const chosen = localStorage.getItem(`plan-${each.id}`);
    if (chosen) each.value = chosen;
    each.addEventListener("change", () => {
      localStorage.setItem(`plan-${each.id}`, each.value);
      planSoon(0);
    });
  }

  function planSoon(wait = 1200) {
    clearTimeout(timer);
    turn += 1;
    const now = turn;
    if (!asks[0].value) return fill(plan, "");
    plan.setAttribute("aria-busy", "true");
    timer = setTimeout(() => planNow(now), wait);
  }

  async function planNow(now) {
    let again = 700;
    try {
      const found = await ask("plan", { text: text.value, ...Object.fromEntries(asks.map((each) => [each.id, each.value])) });
      if (now !== turn) return;
      fill(plan, found.plan || found.refused);
      if (!found.running) again = 0;
    } catch {
      again = 3000;
    }
    if (now !== turn) return;
    if (again) timer = setTimeout(() => planNow(now), again);
    else plan.removeAttribute("aria-busy");
  }

  plan.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button?.dataset.remedy) {
      const changes = JSON.parse(button.dataset.remedy);
      change(...changes.map(([key, value]) => ({ do: "set", path: key.split("."), control: "literal", value })));
      say(`${changes.map((each) => each.join(" = ")).join(", ")} is written into the file.`);
    } else if (button?.dataset.gpus) {
      asks[1].value = button.dataset.gpus;
      asks[1].dispatchEvent(new Event("change"));
    }
  });

  return planSoon;
}
