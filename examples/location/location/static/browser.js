// Where this browser is: navigator.geolocation, as a promise with words for what can go wrong.

const INSECURE = "Browsers tell their location to https pages and to localhost only: use `adb forward`, as the guide says, or open the page on the phone itself.";
const WORDS = {
  1: "You have not allowed this page to know where the browser is. The browser's settings for this page can change that.",
  2: "This browser does not know where it is.",
  3: "This browser could not find out where it is in time.",
};
const TIMEOUT = 20_000; // ms

/** A promise of { latitude, longitude, accuracy }; it fails with a message for people. */
export function ask() {
  return new Promise((resolve, reject) => {
    if (!isSecureContext || !navigator.geolocation) {
      reject(new Error(INSECURE));
      return;
    }
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => resolve(coords),
      ({ code }) => reject(new Error(WORDS[code] ?? WORDS[2])),
      { enableHighAccuracy: true, timeout: TIMEOUT },
    );
  });
}
