// Changes a form into another, node by node, so that the user can go on with it.

// Make a form like a new one, but leave alone what the user opened, has the focus on, or is typing into.
export function morph(here, html) {
  const there = document.createElement("form");
  there.innerHTML = html;
  adoptAll(here, there);
}

function adoptAll(here, there) {
  const old = new Map([...here.childNodes].filter((each) => each.id || each.firstElementChild).map((each) => [key(each), each]));
  let at = here.firstChild;
  for (const wanted of [...there.childNodes]) {
    const like = wanted.nodeType === Node.ELEMENT_NODE ? old.get(key(wanted)) : undefined;
    const same = like || (at && !key(at) && at.nodeName === wanted.nodeName && !key(wanted) ? at : undefined);
    if (same) {
      if (same !== at) here.insertBefore(same, at);
      else at = at.nextSibling;
      adopt(same, wanted);
    } else {
      here.insertBefore(wanted, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function key(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return "";
  if (node.id) return node.id;
  return node.classList.contains("key") ? node.querySelector("[data-path]")?.id + " row" : "";
}

function adopt(here, there) {
  if (here.nodeType !== Node.ELEMENT_NODE) {
    if (here.nodeValue !== there.nodeValue) here.nodeValue = there.nodeValue;
    return;
  }
  if (here.nodeName !== there.nodeName) return here.replaceWith(there);
  for (const { name } of [...here.attributes]) {
    if (name !== "open" && name !== "hidden" && !there.hasAttribute(name)) here.removeAttribute(name);
  }
  for (const { name, value } of there.attributes) {
    if (here.getAttribute(name) !== value && !(here.nodeName === "DETAILS" && name === "open" && here.hasAttribute("data-seen"))) here.setAttribute(name, value);
  }
  const busy = here === document.activeElement && here.dirty;
  adoptAll(here, there);
  if (here.matches("[data-path]") && !busy) {
    if (here.type === "checkbox") here.checked = there.hasAttribute("checked");
    else if (here.value !== there.value) here.value = there.value;
  }
}
