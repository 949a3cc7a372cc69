// The page: the box for a new note, the search box, the list and its pages.

import * as api from "./api.js";
import * as draft from "./draft.js";
import { Card } from "./card.js";
import { refresh } from "./time.js";

const byId = (id) => document.getElementById(id);
const [composer, area, list, more, query] = ["composer", "text", "list", "more", "query"].map(byId);
const [empty, failure, status] = ["empty", "failure", "status"].map(byId);
const composerError = composer.querySelector(".error");

const SEARCH_DELAY = 200; // ms after the last key
const TOAST = 4000; // ms
let loading = new AbortController();
let next = null;

const page = {
  announce(text) {
    status.textContent = text;
    clearTimeout(page.toast);
    page.toast = setTimeout(() => { status.textContent = ""; }, TOAST);
  },
  added(note) {
    list.prepend(new Card(note, page).element);
    showEmptiness();
  },
  removed(card) {
    const neighbour = card.element.nextElementSibling ?? card.element.previousElementSibling;
    card.element.remove();
    showEmptiness();
    (neighbour ?? area).focus();
  },
};

async function load() {
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  list.setAttribute("aria-busy", "true");
  try {
    const found = await api.firstPage(query.value.trim(), signal);
    list.replaceChildren();
    show(found);
    if (query.value.trim()) page.announce(found.notes.length ? `${count(found)} found.` : "Nothing found.");
  } catch (problem) {
    if (!signal.aborted) complain(problem, load);
  } finally {
    if (!signal.aborted) list.removeAttribute("aria-busy");
  }
}

async function loadMore() {
  if (more.disabled) return;
  more.disabled = true;
  const { signal } = loading;
  try {
    const found = await api.nextPage(next, signal);
    const before = list.lastElementChild;
    show(found);
    before?.nextElementSibling?.focus();
  } catch (problem) {
    if (!signal.aborted) complain(problem, loadMore);
  } finally {
    more.disabled = false;
  }
}

function show(found) {
  next = found.next;
  list.append(...found.notes.map((note) => new Card(note, page).element));
  more.hidden = !next;
  failure.hidden = true;
  showEmptiness();
}

function showEmptiness() {
  empty.hidden = list.children.length > 0 || next !== null;
  const sought = query.value.trim();
  empty.querySelector(".title").textContent = sought ? `Nothing found for “${sought}”` : "No notes yet";
  empty.querySelector(".advice").textContent = sought ? "Try fewer letters, or another word." : "Write your first one above.";
}

function complain(problem, again) {
  failure.querySelector("p").textContent = problem.message;
  failure.querySelector("button").onclick = again;
  failure.hidden = false;
  empty.hidden = true;
}

const count = (found) => `${found.notes.length}${found.next ? " or more" : ""}`;

async function add(event) {
  event.preventDefault();
  const button = composer.querySelector("button");
  if (button.disabled) return;
  button.disabled = area.readOnly = true;
  composerError.hidden = true;
  try {
    const note = await api.create(area.value);
    area.value = "";
    draft.keep("");
    page.announce("Saved.");
    if (query.value) {
      query.value = "";
      await load();
    } else {
      page.added(note);
    }
  } catch (problem) {
    composerError.textContent = problem.message;
    composerError.hidden = false;
  } finally {
    button.disabled = area.readOnly = false;
    area.focus();
  }
}

composer.addEventListener("submit", add);
area.addEventListener("input", () => draft.keep(area.value));
area.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) composer.requestSubmit();
});
query.addEventListener("input", () => {
  clearTimeout(page.search);
  page.search = setTimeout(load, SEARCH_DELAY);
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(page.search);
  load();
});
more.addEventListener("click", loadMore);
api.answers.addEventListener("instance", (event) => { byId("instance").textContent = event.detail; });
setInterval(() => list.querySelectorAll("time").forEach(refresh), 60_000);

area.value = draft.load();
load();
