// The dashboard: which page is shown, and what stands around it.

import { logOut, session } from "./api.js";
import { Actions } from "./actions.js";
import { Application } from "./application.js";
import { Cluster } from "./cluster.js";
import { h, keyed, setText } from "./dom.js";
import { Events } from "./events.js";
import { Machine } from "./machine.js";
import { Overview } from "./overview.js";
import { Unit } from "./unit.js";

const PAGES = { "": Overview, unit: Unit, application: Application, machine: Machine, events: Events };
const AGAIN = 2000; // ms before kirschd is asked again for whom it takes us

const byId = (id) => document.getElementById(id);
let page = null;

async function begin() {
  let known;
  try {
    known = await session();
  } catch (failure) {
    complain(failure.message);
    if (failure.status !== 401) setTimeout(begin, AGAIN);
    return;
  }
  setText(byId("where"), known.where);
  setText(byId("who"), `${known.user}, ${known.role}`);
  if (known.login) byId("who").after(" ", h("button", { type: "button", class: "button", onclick: leave }, "Log out"));
  const cluster = new Cluster(known);
  const context = { cluster, actions: new Actions(cluster, byId("done")) };
  const open = () => {
    const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    page?.close?.();
    page = new (PAGES[name] ?? Overview)(context, rest);
    byId("main").replaceChildren(page.element);
    show(cluster);
    if (!location.hash.endsWith("/journal")) scrollTo(0, 0);
  };
  cluster.addEventListener("change", () => show(cluster));
  addEventListener("hashchange", () => {
    open();
    byId("main").focus({ preventScroll: true });
  });
  open();
  cluster.start();
}

async function leave() {
  await logOut();
  location.assign("login");
}

function show(cluster) {
  complain(cluster.trouble);
  if (!cluster.ready) return;
  page.update();
  const wrong = cluster.wrong.length;
  setText(document.querySelector("title"), `${wrong ? `(${wrong}) ` : ""}${page.title} – kirsch`);
  keyed(byId("applications"), [...cluster.applications.keys()], (name) => name,
    (name) => h("a", { href: `#/application/${encodeURIComponent(name)}` }, name), () => {});
  for (const link of document.querySelectorAll(".top nav a")) {
    const here = link.getAttribute("href") === (location.hash || "#/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function complain(text) {
  const place = byId("trouble");
  setText(place, text);
  place.hidden = !text;
}

begin();
