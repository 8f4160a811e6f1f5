// Updates the open screen. The server sends the same HTML that it renders for a request, and only
// what differs is changed, so that focus, selection and opened details stay.
"use strict";

const main = document.querySelector("main[data-live]");
const state = document.getElementById("updates");
const pause = document.getElementById("pause");

/** Makes `old` equal to `next`, in place. */
function morph(old, next) {
  if (old.isEqualNode(next)) return;
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName) {
    old.replaceWith(document.importNode(next, true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = next.nodeValue;
    return;
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // Details stay open.
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  morphChildren(old, next);
}

/** Children with the same `data-key` are the same one; the others are so by their place. */
function morphChildren(old, next) {
  const keyOf = (node) => node?.dataset?.key;
  const wanted = new Set([...next.children].map(keyOf));
  for (const child of [...old.children]) {
    if (keyOf(child) && !wanted.has(keyOf(child))) child.remove();
  }
  const known = new Map([...old.children].map((child) => [keyOf(child), child]));
  let at = old.firstChild;
  for (const child of next.childNodes) {
    const key = keyOf(child);
    const same = key ? known.get(key) : at && !keyOf(at) ? at : null;
    if (!same) {
      old.insertBefore(document.importNode(child, true), at);
      continue;
    }
    if (same !== at) old.insertBefore(same, at);
    at = same.nextSibling;
    morph(same, child);
  }
  while (at) {
    const following = at.nextSibling;
    at.remove();
    at = following;
  }
}

function say(text, isStale) {
  state.textContent = text;
  state.parentElement.classList.toggle("stale", isStale);
}

let updates = null;
let last = "";

function open() {
  updates = new EventSource(location.href);
  updates.addEventListener("screen", (event) => {
    const next = new DOMParser().parseFromString(event.data, "text/html");
    morphChildren(main, next.body);
  });
  updates.addEventListener("time", (event) => {
    last = event.data;
    say(`live, as of ${last}`, false);
  });
  updates.addEventListener("error", () => {
    const ended = updates.readyState === EventSource.CLOSED;
    say(`no updates${last ? ` since ${last}` : ""}; ${ended ? "reload the page" : "trying again"}`, true);
  });
}

function close() {
  updates.close();
  updates = null;
  say(`paused${last ? ` at ${last}` : ""}`, false);
}

if (main && state && pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (updates) close();
    else open();
    pause.textContent = updates ? "Pause updates" : "Resume updates";
  });
  // A hidden tab takes no place among the updated screens.
  document.addEventListener("visibilitychange", () => {
    const isWanted = pause.textContent === "Pause updates";
    if (document.hidden && updates) {
      updates.close();
      updates = null;
    } else if (!document.hidden && !updates && isWanted) open();
  });
  open();
}
