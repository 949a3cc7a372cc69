// The way of the last minutes, drawn to scale: no tiles, nothing is asked of anybody.

const RADIUS = 6_371_000; // metres: the Earth's
const MOST = 300; // places
const LENGTHS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000, 500_000, 1_000_000];
const [WIDTH, HEIGHT, MARGIN] = [640, 300, 36];
const SMALLEST = 60; // metres across, at least

export class Track {
  constructor(svg) {
    this.part = (id) => svg.querySelector(`#${id}`);
    this.places = [];
    this.own = null;
  }

  /** Another place of the phone. */
  add(place) {
    this.places = [...this.places, place].slice(-MOST);
    this.draw();
  }

  /** Where the browser is; null if that is not known. */
  mark(place) {
    this.own = place;
    this.draw();
  }

  /** Metres between two places, along the Earth (haversine). */
  distance(a, b) {
    const rad = Math.PI / 180;
    const h = Math.sin(((b.latitude - a.latitude) * rad) / 2) ** 2
      + Math.cos(a.latitude * rad) * Math.cos(b.latitude * rad) * Math.sin(((b.longitude - a.longitude) * rad) / 2) ** 2;
    return 2 * RADIUS * Math.asin(Math.min(1, Math.sqrt(h)));
  }

  draw() {
    const here = this.places.at(-1);
    this.part("browser-mark").toggleAttribute("hidden", !this.own || !here);
    if (!here) return;
    const places = this.places.map((place) => plane(place, here));
    const own = this.own && plane(this.own, here);
    const radius = here.accuracy ?? 0;
    // The circle around the phone is to be seen in whole, wherever in the picture that is.
    const seen = [...places, ...(own ? [own] : []), [-radius, -radius], [radius, radius]];
    const [left, right] = [Math.min(...seen.map(([x]) => x)), Math.max(...seen.map(([x]) => x))];
    const [low, high] = [Math.min(...seen.map(([, y]) => y)), Math.max(...seen.map(([, y]) => y))];
    const across = Math.max(SMALLEST, right - left, ((high - low) * (WIDTH - 2 * MARGIN)) / (HEIGHT - 2 * MARGIN));
    const scale = (WIDTH - 2 * MARGIN) / across;
    const to = ([x, y]) => [WIDTH / 2 + (x - (left + right) / 2) * scale, HEIGHT / 2 - (y - (low + high) / 2) * scale];
    const [x, y] = to([0, 0]);
    this.part("way").setAttribute("points", places.map((place) => to(place).map((n) => n.toFixed(1)).join(",")).join(" "));
    set(this.part("here"), { cx: x, cy: y });
    set(this.part("circle"), { cx: x, cy: y, r: radius * scale });
    if (own) this.part("browser-mark").setAttribute("transform", `translate(${to(own).join(" ")})`);
    const length = LENGTHS.findLast((each) => each * scale < WIDTH / 3) ?? LENGTHS[0];
    this.part("scale").querySelector("line").setAttribute("x2", 24 + length * scale);
    this.part("scale-text").textContent = length < 1000 ? `${length} m` : `${length / 1000} km`;
  }
}

// Metres east and north of a place: flat enough for a walk.
function plane(place, origin) {
  const metre = (Math.PI / 180) * RADIUS;
  return [
    (place.longitude - origin.longitude) * metre * Math.cos((origin.latitude * Math.PI) / 180),
    (place.latitude - origin.latitude) * metre,
  ];
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value.toFixed(1));
}
