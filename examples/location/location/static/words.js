// Numbers as people say them.

const POINTS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];

/** 50.08345° N */
export const degrees = (value, positive, negative) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? negative : positive}`;

/** 12 m, 3.4 km */
export function metres(value) {
  return Math.abs(value) < 1000 ? `${Math.round(value)} m` : `${(value / 1000).toFixed(Math.abs(value) < 10_000 ? 1 : 0)} km`;
}

/** 3 s, 5 min, 2 h */
export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** south-west (225°) */
export const towards = (bearing) => `${POINTS[Math.round(bearing / 45) % 8]} (${Math.round(bearing)}°)`;
