// The editor of a run file: a text and a form of it, which are kept in step by the server.

import { morph } from "/static/morph.js";
import { nextBatch } from "/static/run-file-batch.js";
import { planner } from "/static/run-file-plan.js";
import { fetchPart, fill, say } from "/static/studio.js";

for (const time of document.querySelectorAll("time[data-time]")) {
  const at = new Date(Number(time.dataset.time) * 1000);
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

const editor = document.getElementById("editor");
if (editor) edit();

function edit() {
  const [text, form, gutter, state, answer] = ["text", "form", "gutter", "state", "answer"].map((id) => document.getElementById(id));
  const { name } = editor.dataset;
  let base = editor.dataset.base;
  let saved = editor.dataset.draft ? "" : text.value; // what the file holds
  let kept = text.value; // what the server has as the file or as a draft
  let marks = JSON.parse(gutter.dataset.marks);
  let turn = 0; // of the text: answers to earlier ones are dropped
  let timer = 0;

  // ---- asking the server

  async function ask(path, fields, options = {}) {
    const body = new URLSearchParams({ name, base, ...fields });
    const part = await fetchPart(`/run-file/${path}`, { method: "POST", body, ...options });
    return JSON.parse(part.text);
  }

  function unanswered() {
    state.textContent = "Not kept: the studio's server does not answer. Do not close this page.";
    timer = setTimeout(look, 2000);
  }

  const planSoon = planner(text, ask, change);

  // ---- the text

  let asking = Promise.resolve(); // what is asked one after the other, so that an old text never replaces a new one

  function look() {
    asking = asking.then(lookNow);
    return asking;
  }

  async function lookNow() {
    const [asked, now] = [text.value, turn];
    try {
      const found = await ask("look", { text: asked });
      kept = asked;
      if (now === turn) show(found);
    } catch {
      if (now === turn) unanswered();
    }
  }

  function show(found) {
    if (found.refused) fill(answer, found.refused);
    if ("draft" in found) {
      state.textContent = found.draft ? "Not saved; kept as a draft" : "Saved";
      if (!found.draft) document.getElementById("drafted")?.remove();
    }
    if (found.faults === undefined) return;
    marks = found.marks;
    fill(document.getElementById("faults"), found.faults);
    document.getElementById("form-off").hidden = found.form !== null;
    for (const each of form.elements) each.disabled = found.form === null;
    if (found.form !== null) morph(form, found.form);
    filter();
    number();
  }

  function changed(wait = 250) {
    turn += 1;
    clearTimeout(timer);
    state.textContent = "Changed";
    timer = setTimeout(look, wait);
    number();
    planSoon();
  }

  // Put a text into the editor as the user would type it, so that the browser can undo it.
  function type(wanted) {
    const had = text.value;
    if (wanted === had) return;
    let start = 0;
    while (start < had.length && had[start] === wanted[start]) start += 1;
    let end = 0;
    while (end < had.length - start && end < wanted.length - start && had.at(-1 - end) === wanted.at(-1 - end)) end += 1;
    const middle = wanted.slice(start, wanted.length - end);
    const [focused, shown, top] = [document.activeElement, editor.dataset.show, window.scrollY];
    editor.dataset.show = "toml"; // what is not shown cannot be typed into
    text.focus({ preventScroll: true });
    text.setSelectionRange(start, had.length - end);
    typing = true;
    const typed = document.execCommand(middle ? "insertText" : "delete", false, middle);
    if (!typed || text.value !== wanted) text.value = wanted;
    typing = false;
    editor.dataset.show = shown;
    if (focused && focused !== document.body) focused.focus({ preventScroll: true });
    window.scrollTo(0, top);
  }

  let typing = false;
  text.addEventListener("input", () => typing || changed());
  text.addEventListener("scroll", () => (gutter.scrollTop = text.scrollTop));

  function number() {
    const lines = text.value.split("\n").length;
    const marked = new Map(marks.map(([line, kind, what]) => [line, [kind, what]]));
    gutter.replaceChildren(
      ...Array.from({ length: lines }, (_, at) => {
        const line = document.createElement("span");
        line.textContent = `${at + 1}\n`;
        const [kind, what] = marked.get(at + 1) || [];
        if (kind) {
          line.className = kind;
          line.title = what;
        }
        return line;
      }),
    );
    gutter.scrollTop = text.scrollTop;
  }

  function goTo(line) {
    pane("toml");
    const lines = text.value.split("\n");
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    text.focus();
    text.setSelectionRange(start, start + (lines[line - 1] || "").length);
    text.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(text).lineHeight));
  }

  // ---- the form

  // Changes of the form are made one after the other, each of the text that the last one left.
  function change(...changes) {
    asking = asking.then(async () => {
      for (;;) {
        const [asked, now] = [text.value, turn];
        try {
          const found = await ask("change", { text: asked, changes: JSON.stringify(changes) });
          if (now !== turn) continue; // the user typed meanwhile
          if (found.text === undefined) {
            fill(answer, found.refused);
            await lookNow();
            return;
          }
          clearTimeout(timer);
          turn += 1;
          kept = found.text;
          fill(answer, "");
          type(found.text);
          show(found);
          planSoon();
        } catch {
          say("The studio's server does not answer. The change was not made.");
        }
        return;
      }
    });
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => (event.target.dirty = true));
  form.addEventListener("toggle", (event) => event.target.setAttribute("data-seen", ""), true);
  form.addEventListener("change", ({ target }) => {
    target.dirty = false;
    if (!target.dataset.path) return;
    const path = JSON.parse(target.dataset.path);
    const { control } = target.dataset;
    if (target.validity.badInput) {
      fill(answer, "");
      say("This is not a number.");
      return;
    }
    const value = control === "switch" ? String(target.checked) : target.value;
    if (value.trim() === "") {
      if (target.closest(".key").classList.contains("set")) change({ do: "remove", path });
    } else {
      change({ do: "set", path, control, value });
    }
  });
  form.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button?.dataset.remove) {
      const path = JSON.parse(button.dataset.remove);
      change({ do: "remove", path });
      document.getElementById(button.id.replace(/-remove$/, ""))?.focus();
    } else if (button?.dataset.add) {
      const kind = document.getElementById(button.id.replace(/-add$/, "-kind"))?.value;
      change({ do: "add", path: JSON.parse(button.dataset.add), key: button.dataset.key, kind });
    }
  });

  const wanted = document.getElementById("filter");
  const only = document.getElementById("only-set");
  let filtering = false;
  function filter() {
    const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
    const was = filtering;
    filtering = words.length > 0 || only.checked;
    if (!filtering && !was) return;
    let count = 0;
    for (const row of form.querySelectorAll(".key")) {
      const fits = (!only.checked || row.classList.contains("set")) && words.every((word) => row.dataset.words.includes(word));
      row.hidden = !fits;
      count += fits;
    }
    for (const table of [...form.querySelectorAll("details.table")].reverse()) {
      const fits = words.length > 0 && !only.checked && words.every((word) => table.dataset.words.includes(word));
      const inside = table.querySelector(".key:not([hidden])") !== null;
      table.hidden = filtering && !inside && !fits;
      if (was !== filtering && filtering) table.wasOpen = table.open;
      table.open = filtering ? inside : Boolean(table.wasOpen);
    }
    document.getElementById("matches").textContent = words.length ? `${count} keys` : "";
  }
  wanted.addEventListener("input", filter);
  only.addEventListener("change", filter);

  function goToField(id) {
    const field = document.getElementById(id);
    if (!field) return;
    pane("form");
    if (wanted.value || only.checked) {
      wanted.value = "";
      only.checked = false;
      filter();
    }
    for (let each = field; each; each = each.parentElement?.closest("details")) if (each.nodeName === "DETAILS") each.open = true;
    const target = field.nodeName === "DETAILS" ? field.querySelector("summary") : field;
    target.focus();
    target.scrollIntoView({ block: "center" });
  }

  // ---- what is around them

  function pane(which) {
    editor.dataset.show = which;
    for (const tab of document.querySelectorAll("[data-tab]")) tab.setAttribute("aria-pressed", String(tab.dataset.tab === which));
    number();
  }

  async function save(extra = {}) {
    await asking;
    const given = text.value;
    const found = await ask("save", { text: given, ...extra });
    if (found.base && !found.conflict) {
      base = found.base;
      saved = given;
      state.textContent = text.value === given ? "Saved" : "Changed";
      document.getElementById("drafted")?.remove();
      fill(answer, "");
      say("Saved.");
    } else conflict(found);
    return saved === given;
  }

  function conflict(found) {
    fill(answer, found.conflict || found.refused);
    document.getElementById("overwrite")?.addEventListener("click", () => act(() => save({ base: found.base })));
    document.getElementById("take")?.addEventListener("click", () => act(take));
    answer.scrollIntoView({ block: "nearest" });
  }

  // Take the text of the file as it is now.
  async function take() {
    const found = await ask("take", {});
    if (found.refused) return fill(answer, found.refused);
    [base, saved] = [found.base, found.text];
    fill(answer, "");
    type(found.text);
    changed(0);
  }

  async function act(action, button) {
    button?.setAttribute("aria-busy", "true");
    try {
      await action();
    } catch {
      say("The studio's server does not answer.");
    } finally {
      button?.removeAttribute("aria-busy");
    }
  }

  async function start() {
    await asking;
    const found = await ask("start", { text: text.value });
    if (found.base && !found.conflict) base = found.base;
    if (found.to) return location.assign(found.to);
    if (found.conflict) return conflict(found);
    show(found);
    if (found.checked) {
      saved = text.value;
      state.textContent = "Saved";
      fill(answer, found.checked);
    }
    answer.scrollIntoView({ block: "nearest" });
  }

  async function check() {
    fill(answer, "");
    say("Checking with the data …");
    await asking;
    const now = turn;
    const found = await ask("check", { text: text.value });
    if (now !== turn) return say("The text was changed while it was checked.");
    say("");
    show(found);
    if (found.checked) fill(answer, found.checked);
    answer.scrollIntoView({ block: "nearest" });
  }

  async function discard() {
    if (!confirm("Discard all changes that are not saved?")) return;
    const found = await ask("discard", {});
    kept = text.value;
    clearTimeout(timer);
    location.assign(found.to);
  }
  document.getElementById("discard")?.addEventListener("click", () => act(discard));

  // Save the text for the next batch, and say whether it is saved.
  async function ready() {
    await asking;
    return text.value === saved || save();
  }
  nextBatch(editor, ask, act, ready);

  const buttons = { save, start, check };
  for (const [id, action] of Object.entries(buttons)) {
    const button = document.getElementById(id);
    button.addEventListener("click", () => act(() => action(), button));
  }
  for (const id of ["undo", "redo"]) {
    document.getElementById(id).addEventListener("click", () => {
      const shown = editor.dataset.show;
      editor.dataset.show = "toml";
      text.focus({ preventScroll: true });
      document.execCommand(id);
      editor.dataset.show = shown;
      document.getElementById(id).focus({ preventScroll: true });
    });
  }
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "s") {
      event.preventDefault();
      document.activeElement?.dispatchEvent(new Event("change", { bubbles: true }));
      act(() => save());
    }
  });
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (button?.dataset.line) goTo(Number(button.dataset.line));
    if (button?.dataset.field) goToField(button.dataset.field);
    if (button?.dataset.tab) pane(button.dataset.tab);
    if (button?.id === "trust") act(async () => show(await ask("trust", { text: text.value })), button);
  });
  window.addEventListener("pagehide", () => {
    if (text.value !== kept) ask("look", { text: text.value }, { keepalive: true }).catch(() => {});
  });

  planSoon(0);
  number();
}
