"use strict";

// Numbers under the pointer: one step, in every plot at once.
const plots = [...document.querySelectorAll(".plot")].map((figure) => {
  const tip = figure.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  const told = JSON.parse(figure.querySelector("script").textContent);
  return { figure, tip, told, svg: figure.querySelector("svg"), cross: figure.querySelector(".cross"), hidden: new Set() };
});

const spelled = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(4)).toString());

function nearest(steps, wanted) {
  let low = 0;
  let high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < wanted) low = middle;
    else high = middle;
  }
  return Math.abs(steps[low] - wanted) <= Math.abs(steps[high] - wanted) ? low : high;
}

function point(plot, step, here) {
  const [low, high, start, end] = plot.told.x;
  plot.cross.style.opacity = step === null ? 0 : 1;
  plot.tip.hidden = step === null || !here;
  if (step === null) return;
  const inside = Math.min(Math.max(step, low), high);
  const x = start + ((inside - low) / (high - low)) * (end - start);
  plot.cross.setAttribute("x1", x);
  plot.cross.setAttribute("x2", x);
  if (!here) return;
  plot.tip.replaceChildren();
  let shown = null;
  plot.told.lines.forEach((line, index) => {
    if (plot.hidden.has(index) || !line.steps.length) return;
    const at = nearest(line.steps, inside);
    shown = shown ?? line.steps[at];
    const row = plot.tip.appendChild(document.createElement("div"));
    row.textContent = plot.told.lines.length > 1 ? `${line.label}: ${spelled(line.values[at])}` : spelled(line.values[at]);
  });
  const head = document.createElement("b");
  head.textContent = `step ${(shown ?? Math.round(inside)).toLocaleString("en")}`;
  plot.tip.prepend(head);
  const box = plot.svg.getBoundingClientRect();
  const outer = plot.figure.getBoundingClientRect();
  const left = box.left - outer.left + (x / plot.svg.viewBox.baseVal.width) * box.width;
  const wide = plot.tip.offsetWidth;
  plot.tip.style.left = `${left + 12 + wide > outer.width ? left - wide - 12 : left + 12}px`;
  plot.tip.style.top = `${box.top - outer.top + 14}px`;
}

for (const plot of plots) {
  plot.svg.addEventListener("pointermove", (event) => {
    const box = plot.svg.getBoundingClientRect();
    const [low, high, start, end] = plot.told.x;
    const x = ((event.clientX - box.left) / box.width) * plot.svg.viewBox.baseVal.width;
    const step = low + ((Math.min(Math.max(x, start), end) - start) / (end - start)) * (high - low);
    for (const other of plots) point(other, step, other === plot);
  });
  plot.svg.addEventListener("pointerleave", () => plots.forEach((other) => point(other, null, false)));
  for (const button of plot.figure.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const index = Number(button.dataset.line);
      const off = !plot.hidden.has(index);
      plot.hidden[off ? "add" : "delete"](index);
      button.setAttribute("aria-pressed", String(!off));
      plot.svg.querySelectorAll(".curve")[index].style.display = off ? "none" : "";
    });
  }
}

// Media: a file is in the page once; one plays at a time, unless they are to play together.
for (const copy of document.querySelectorAll("[data-same]")) copy.src = document.getElementById(copy.dataset.same).src;

const media = [...document.querySelectorAll("audio, video")];
let together = [];
for (const medium of media) {
  const line = medium.parentElement.querySelector(".spectrogram i");
  const follow = () => {
    if (line && medium.duration) {
      line.style.opacity = medium.currentTime > 0 ? 0.9 : 0;
      line.style.left = `${(medium.currentTime / medium.duration) * 100}%`;
    }
    if (!medium.paused) requestAnimationFrame(follow);
  };
  medium.addEventListener("play", () => {
    if (!together.includes(medium)) {
      together = [];
      for (const other of media) if (other !== medium) other.pause();
    }
    follow();
  });
  medium.addEventListener("seeked", follow);
}
for (const button of document.querySelectorAll(".together")) {
  button.addEventListener("click", () => {
    const row = [...button.closest(".over-steps").querySelectorAll("audio, video")];
    for (const other of media) if (!row.includes(other)) other.pause();
    together = row;
    for (const medium of row) {
      medium.currentTime = 0;
      medium.play();
    }
  });
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
