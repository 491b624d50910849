// What all screens use. A part of a page is HTML that the server makes:
//
//   <div data-poll="/runs/list" data-every="2000">   is filled again every two seconds while it can be seen;
//   <form data-into="#list">, <a data-into="#list">  put the answer into the element in place of the page's change;
//   <form data-ask="Stop the run?">                  asks before it is sent.
//
// Every change fires "part" on the element that was filled.

export function say(text) {
  document.getElementById("said").textContent = text;
}

export async function fetchPart(address, options = {}) {
  const answer = await fetch(address, { ...options, headers: { "x-part": "1", ...(options.headers || {}) } });
  return { ok: answer.ok, text: await answer.text(), address: answer.url };
}

export function fill(element, html) {
  if (element.lastHtml === html) return;
  element.lastHtml = html;
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus();
  element.dispatchEvent(new CustomEvent("part", { bubbles: true }));
}

async function poll(element) {
  while (element.isConnected) {
    await new Promise((resolve) => setTimeout(resolve, Number(element.dataset.every || 2000)));
    if (document.hidden || !element.isConnected || element.contains(document.querySelector("[data-editing]"))) continue;
    try {
      const part = await fetchPart(element.dataset.poll);
      if (part.ok) fill(element, part.text);
      element.removeAttribute("data-lost");
    } catch {
      if (!element.hasAttribute("data-lost")) say("The studio's server does not answer. Runs go on without it.");
      element.setAttribute("data-lost", "");
    }
  }
}

// Ask for how far a job is until it has ended, and show each answer.
export async function follow(address, where, until = () => false) {
  for (;;) {
    try {
      const found = JSON.parse((await fetchPart(address)).text);
      if (until()) return;
      fill(where, found.html);
      if (!found.running) return;
    } catch {
      say("The studio's server does not answer. Work that was started goes on.");
    }
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
}

export function watch(within = document) {
  for (const element of within.querySelectorAll("[data-poll]:not([data-polled])")) {
    element.setAttribute("data-polled", "");
    poll(element);
  }
}

async function send(form, button) {
  const target = document.querySelector(form.dataset.into);
  const fields = new URLSearchParams(new FormData(form, button));
  const get = (button?.formMethod || form.method) === "get";
  const address = button?.getAttribute("formaction") || form.getAttribute("action");
  target.setAttribute("aria-busy", "true");
  try {
    const part = get ? await fetchPart(`${address}?${fields}`) : await fetchPart(address, { method: "POST", body: fields });
    fill(target, part.text);
    if (part.ok && form.dataset.said) say(form.dataset.said);
  } catch {
    say("The studio's server does not answer.");
  } finally {
    target.removeAttribute("aria-busy");
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = event.submitter?.dataset.ask || form.dataset.ask;
  if (question && !confirm(question)) {
    event.preventDefault();
  } else if (form.dataset.into) {
    event.preventDefault();
    send(form, event.submitter);
  }
});

document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-into]");
  if (!link) return;
  event.preventDefault();
  fill(document.querySelector(link.dataset.into), (await fetchPart(link.href)).text);
});

document.addEventListener("part", (event) => watch(event.target));

document.getElementById("theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});

watch();
