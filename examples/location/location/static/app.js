// The page: what the server says live, and what this browser knows itself.

import { ask } from "./browser.js";
import { follow } from "./live.js";
import { Track } from "./track.js";
import { degrees, duration, metres, towards } from "./words.js";

const byId = (id) => document.getElementById(id);
const track = new Track(byId("map"));
const ADVICE = {
  "permission-denied": "Somebody has to allow it on the phone: in Android's settings, under apps and permissions.",
  "no-fix": "Satellites are found under the open sky. The first time takes a minute or two.",
  "unavailable": "The page goes on asking. Below, this browser can be asked.",
  "bad-answer": "The page goes on asking. Below, this browser can be asked.",
};
const TITLES = {
  "permission-denied": "The phone does not allow it",
  "no-fix": "No location yet",
  "unavailable": "Nobody can be asked",
  "bad-answer": "The answer makes no sense",
};
let known = null; // the last location, and when it came
let own = null;

function show(told) {
  const has = told.status === 200;
  byId("known").hidden = !has;
  byId("nowhere").hidden = has;
  showFailures(told.failures);
  if (!has) {
    say("reason", TITLES[told.reason] ?? "There is no location");
    say("advice", ADVICE[told.reason] ?? "");
    known = null;
    return;
  }
  known = { ...told, came: performance.now() };
  byId("latitude").textContent = degrees(told.latitude, "N", "S");
  byId("longitude").textContent = degrees(told.longitude, "E", "W");
  byId("accuracy").textContent = told.accuracy === null ? "of unknown accuracy," : `within ${metres(told.accuracy)},`;
  byId("altitude").textContent = told.altitude === null ? "unknown" : metres(told.altitude);
  byId("speed").textContent = told.speed === null ? "unknown" : `${(told.speed * 3.6).toFixed(told.speed < 3 ? 1 : 0)} km/h`;
  byId("bearing").textContent = told.bearing === null ? "unknown" : towards(told.bearing);
  byId("source").textContent = told.provider ? `${told.source} (${told.provider})` : told.source;
  byId("open").href = `https://www.openstreetmap.org/?mlat=${told.latitude}&mlon=${told.longitude}#map=17/${told.latitude}/${told.longitude}`;
  track.add(told);
  showAge();
  showDistance();
}

function showFailures(failures) {
  byId("failures").replaceChildren(...failures.map(({ source, detail }) => {
    const item = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = source;
    item.append(name, ` ${detail}`);
    return item;
  }));
}

function showAge() {
  if (known) byId("age").textContent = `${duration(known.age + (performance.now() - known.came) / 1000)} ago`;
}

function showState(state, words) {
  const element = byId("state");
  element.dataset.state = state;
  say("state", words);
}

// A text that is read aloud is set only when it is another.
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function showDistance() {
  if (!own) return;
  const place = `${degrees(own.latitude, "N", "S")} ${degrees(own.longitude, "E", "W")}, within ${metres(own.accuracy)}`;
  const far = known ? `, ${metres(track.distance(known, own))} from the phone` : "";
  say("browser-text", `This browser is at ${place}${far}.`);
  track.mark(own);
}

byId("ask").addEventListener("click", async () => {
  const button = byId("ask");
  button.disabled = true;
  say("browser-text", "Asking …");
  try {
    own = await ask();
    showDistance();
    button.textContent = "Ask again";
  } catch (problem) {
    own = null;
    track.mark(null);
    say("browser-text", problem.message);
  } finally {
    button.disabled = false;
    button.focus();
  }
});

setInterval(showAge, 1000);
follow(show, showState);
