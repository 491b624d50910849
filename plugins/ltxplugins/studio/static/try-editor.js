// Files that are dropped or chosen, masks that are painted, and spans that are marked. Each ends as a path in a hidden field of its
// condition; the form is then sent to be shown again.

import { say } from "/static/studio.js";

const byId = (id) => document.getElementById(id);
const refresh = () => byId("try-fields").requestSubmit(byId("try-refresh"));

function upload(name, body, progress) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much was sent
    request.open("POST", `/try/upload?name=${encodeURIComponent(name)}`);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (progress && event.lengthComputable) Object.assign(progress, { max: event.total, value: event.loaded });
    });
    request.addEventListener("load", () => resolve(request.response || { problem: "This file was refused: it may be too large." }));
    request.addEventListener("error", () => resolve({ problem: "The studio's server does not answer." }));
    request.send(body);
  });
}

async function put(row, field, file) {
  const progress = document.createElement("progress");
  progress.setAttribute("aria-label", `Sending ${file.name}`);
  row.append(progress);
  const answer = await upload(file.name, file, progress);
  progress.remove();
  if (answer.problem) {
    say(answer.problem);
    return;
  }
  set(row, field, answer.name);
  if (field === "c_mask") set(row, "c_spans", "");
  refresh();
}

function set(row, field, value) {
  row.querySelector(`input[type=hidden][name=${field}]`).value = value;
}

document.addEventListener("change", (event) => {
  const field = event.target.dataset?.upload;
  if (field && event.target.files.length) put(event.target.closest("[data-condition]"), field, event.target.files[0]);
});

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, async (event) => {
    const within = event.target.closest?.("#try-fields");
    if (!within || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    const place = event.target.closest("[data-drop]");
    place?.classList.toggle("over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (!file) return;
    if (place) {
      put(place.closest("[data-condition]"), "c_file", file);
      return;
    }
    const answer = await upload(file.name, file);
    if (answer.problem) {
      say(answer.problem);
      return;
    }
    byId("try-dropped").value = answer.name;
    byId("try-fields").requestSubmit(byId("try-take"));
  });
}

// ---- a mask that is painted on a frame

const paint = { row: null, frame: null, marks: document.createElement("canvas"), last: null };
const COLOUR = "#ff2d6f";
const LONGEST = 1024; // of a side of the mask, in pixels

function show() {
  const canvas = byId("paint-canvas");
  const pen = canvas.getContext("2d");
  pen.globalAlpha = 1;
  pen.drawImage(paint.frame, 0, 0, canvas.width, canvas.height);
  pen.globalAlpha = 0.6;
  pen.drawImage(paint.marks, 0, 0);
}

function stroke(event) {
  const canvas = byId("paint-canvas");
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  const point = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const pen = paint.marks.getContext("2d");
  const wide = Number(byId("paint-size").value) * scale;
  pen.globalCompositeOperation = byId("paint-erase").checked ? "destination-out" : "source-over";
  Object.assign(pen, { lineWidth: wide, strokeStyle: COLOUR, fillStyle: COLOUR });
  pen.beginPath();
  pen.arc(...point, wide / 2, 0, 2 * Math.PI);
  pen.fill();
  if (paint.last) {
    pen.beginPath();
    pen.moveTo(...paint.last);
    pen.lineTo(...point);
    pen.stroke();
  }
  pen.globalCompositeOperation = "source-over";
  paint.last = point;
  show();
}

function openPaint(row) {
  const frame = new Image();
  frame.addEventListener("load", () => {
    const scale = Math.min(1, LONGEST / Math.max(frame.naturalWidth, frame.naturalHeight));
    const size = { width: Math.round(frame.naturalWidth * scale), height: Math.round(frame.naturalHeight * scale) };
    Object.assign(byId("paint-canvas"), size);
    Object.assign(paint.marks, size);
    Object.assign(paint, { row, frame });
    byId("paint-said").textContent = "";
    show();
    byId("try-paint").showModal();
  });
  frame.addEventListener("error", () => say("This file has no frame to paint on. Mark a span of the sound instead."));
  frame.src = `/try/frame?name=${encodeURIComponent(row.querySelector("[name=c_file]").value)}`;
}

async function usePainted() {
  const { width, height } = paint.marks;
  const mask = Object.assign(document.createElement("canvas"), { width, height });
  const pen = mask.getContext("2d");
  pen.drawImage(paint.marks, 0, 0);
  pen.globalCompositeOperation = "source-in"; // what is painted becomes black
  pen.fillRect(0, 0, width, height);
  pen.globalCompositeOperation = "destination-over"; // and what lies behind it white
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  const answer = await upload("mask.png", await new Promise((resolve) => mask.toBlob(resolve, "image/png")));
  if (answer.problem) {
    byId("paint-said").textContent = answer.problem;
    return;
  }
  set(paint.row, "c_mask", answer.name);
  set(paint.row, "c_spans", "");
  paint.row.querySelector("[name=c_modality]").value = "video";
  byId("try-paint").close();
  refresh();
}

byId("paint-canvas").addEventListener("pointerdown", (event) => {
  event.target.setPointerCapture(event.pointerId);
  paint.last = null;
  stroke(event);
});
byId("paint-canvas").addEventListener("pointermove", (event) => {
  if (event.buttons) stroke(event);
});
byId("paint-clear").addEventListener("click", () => {
  paint.marks.getContext("2d").clearRect(0, 0, paint.marks.width, paint.marks.height);
  show();
});
byId("paint-add").addEventListener("click", () => {
  const { width, height } = paint.marks;
  const [left, top, wide, high] = ["left", "top", "width", "height"].map((name) => Number(byId(`paint-${name}`).value) / 100);
  const pen = paint.marks.getContext("2d");
  pen.fillStyle = COLOUR;
  if (byId("paint-erase").checked) pen.clearRect(left * width, top * height, wide * width, high * height);
  else pen.fillRect(left * width, top * height, wide * width, high * height);
  show();
});
byId("paint-use").addEventListener("click", usePainted);

// ---- spans of a sound

const mark = { row: null, peaks: [], seconds: 0, begin: null };

function spans() {
  const found = byId("mark-spans").value.split(",").map((part) => part.split("-").map(Number));
  return found.filter(([begin, end]) => begin >= 0 && end > begin);
}

function drawWave(open) {
  const canvas = byId("mark-canvas");
  const pen = canvas.getContext("2d");
  const colours = getComputedStyle(document.documentElement);
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = colours.getPropertyValue("--bad");
  pen.globalAlpha = 0.35;
  for (const [begin, end] of [...spans(), ...(open ? [open] : [])]) {
    pen.fillRect((begin / mark.seconds) * width, 0, ((end - begin) / mark.seconds) * width, height);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = colours.getPropertyValue("--accent");
  const loudest = Math.max(0.01, ...mark.peaks);
  mark.peaks.forEach((peak, index) => {
    const bar = Math.max(1, (peak / loudest) * (height - 8));
    pen.fillRect((index / mark.peaks.length) * width, (height - bar) / 2, Math.max(1, width / mark.peaks.length - 0.3), bar);
  });
}

function add(begin, end) {
  const span = `${Number(begin.toFixed(2))}-${Number(end.toFixed(2))}`;
  byId("mark-spans").value = [byId("mark-spans").value.trim(), span].filter(Boolean).join(", ");
  drawWave();
}

async function openMark(row) {
  const name = encodeURIComponent(row.querySelector("[name=c_file]").value);
  const found = await (await fetch(`/try/wave?name=${name}`)).json();
  if (found.problem) {
    say(found.problem);
    return;
  }
  Object.assign(mark, { row, peaks: found.peaks, seconds: found.seconds });
  byId("mark-length").textContent = `The sound lasts ${found.seconds.toFixed(2)} seconds. Drag over the waveform, or write the numbers.`;
  byId("mark-sound").src = `/try/file?name=${name}`;
  byId("mark-spans").value = row.querySelector("[name=c_spans]").value;
  byId("mark-said").textContent = "";
  byId("try-mark").showModal();
  drawWave();
}

const at = (event) => {
  const box = byId("mark-canvas").getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * mark.seconds;
};
byId("mark-canvas").addEventListener("pointerdown", (event) => {
  event.target.setPointerCapture(event.pointerId);
  mark.begin = at(event);
});
byId("mark-canvas").addEventListener("pointermove", (event) => {
  if (event.buttons && mark.begin !== null) drawWave([Math.min(mark.begin, at(event)), Math.max(mark.begin, at(event))]);
});
byId("mark-canvas").addEventListener("pointerup", (event) => {
  const [begin, end] = [mark.begin, at(event)].sort((one, other) => one - other);
  mark.begin = null;
  if (end - begin > mark.seconds / 200) add(begin, end);
  else drawWave();
});
byId("mark-add").addEventListener("click", () => add(Number(byId("mark-from").value), Number(byId("mark-to").value)));
byId("mark-spans").addEventListener("input", () => drawWave());
byId("mark-use").addEventListener("click", async () => {
  const asked = new URLSearchParams({ name: mark.row.querySelector("[name=c_file]").value, spans: byId("mark-spans").value });
  const answer = await (await fetch("/try/spans", { method: "POST", body: asked })).json();
  if (answer.problem) {
    byId("mark-said").textContent = answer.problem;
    return;
  }
  set(mark.row, "c_mask", answer.name);
  set(mark.row, "c_spans", byId("mark-spans").value);
  mark.row.querySelector("[name=c_modality]").value = "audio";
  byId("try-mark").close();
  refresh();
});

document.addEventListener("click", (event) => {
  if (event.target.matches("[data-paint]")) openPaint(event.target.closest("[data-condition]"));
  if (event.target.matches("[data-mark]")) openMark(event.target.closest("[data-condition]"));
  if (event.target.matches("[data-close]")) event.target.closest("dialog").close();
});
byId("try-mark").addEventListener("close", () => byId("mark-sound").pause());
