// Plays all samples of the grid in step, with the sound of one at a time.
//
// The clock is a time of its own, not one of the players: samples may be of different lengths, and a player that is late is brought back to the clock.

import { say } from "/static/studio.js";

const LATE = 0.08; // seconds by which a player may be off the clock before it is set to it
const cells = [...document.querySelectorAll(".cell")];
const player = document.getElementById("player");

if (player) {
  const [play, seek, time] = ["play", "seek", "time"].map((id) => document.getElementById(id));
  let playing = false;
  let started = 0; // when the clock read 0, in seconds of performance.now
  let stood = 0; // what the clock reads while it stands

  const length = () => Math.max(0, ...cells.map((cell) => cell.duration || 0).filter(Number.isFinite));
  const clock = () => (playing ? performance.now() / 1000 - started : stood);

  function show() {
    seek.max = String(length() || 1);
    seek.value = String(clock());
    time.value = `${clock().toFixed(1)} s`;
    seek.setAttribute("aria-valuetext", `${clock().toFixed(1)} of ${length().toFixed(1)} seconds`);
  }

  function keep(cell, at) {
    const end = cell.duration || 0;
    if (playing && at < end) {
      if (Math.abs(cell.currentTime - at) > LATE) cell.currentTime = at;
      if (cell.paused) cell.play().catch(() => {});
    } else {
      if (!cell.paused) cell.pause();
      const to = Math.min(at, end);
      if (Math.abs(cell.currentTime - to) > 0.001) cell.currentTime = to;
    }
  }

  function tick() {
    if (playing && clock() >= length()) started = performance.now() / 1000; // from the beginning, all at once
    for (const cell of cells) keep(cell, clock());
    show();
    if (playing) requestAnimationFrame(tick);
  }

  function set(at) {
    stood = Math.min(Math.max(0, at), length());
    started = performance.now() / 1000 - stood;
    if (!playing) tick();
  }

  function toggle() {
    stood = clock();
    playing = !playing;
    started = performance.now() / 1000 - stood;
    play.textContent = playing ? "Pause" : "Play";
    tick();
  }

  function hear(chosen) {
    for (const cell of cells) {
      const heard = cell === chosen;
      const place = cell.closest("td");
      cell.muted = !heard;
      place.classList.toggle("heard", heard);
      place.querySelector(".hear").setAttribute("aria-pressed", String(heard));
    }
    say(chosen ? `You hear ${chosen.getAttribute("aria-label")}` : "No sound");
  }

  const step = (frames) => {
    if (playing) toggle();
    set(stood + frames / 24);
  };

  play.addEventListener("click", toggle);
  document.getElementById("back").addEventListener("click", () => step(-1));
  document.getElementById("forward").addEventListener("click", () => step(1));
  document.getElementById("mute").addEventListener("click", () => hear(null));
  seek.addEventListener("input", () => set(Number(seek.value)));
  for (const cell of cells) {
    const button = cell.closest("td").querySelector(".hear");
    const choose = () => hear(cell.muted ? cell : null);
    button.addEventListener("click", choose);
    cell.addEventListener("click", choose);
    cell.addEventListener("loadedmetadata", show);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === " " && !event.target.closest("button, a, summary")) toggle();
    else if (event.key === "," || event.key === ".") step(event.key === "." ? 1 : -1);
    else if (event.key.toLowerCase() === "m") hear(null);
    else if (/^[1-9]$/.test(event.key) && cells[event.key - 1]) hear(cells[event.key - 1]);
    else return;
    event.preventDefault();
  });
  show();
}
