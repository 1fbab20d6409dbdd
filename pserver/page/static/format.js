// Numbers formatted for people. An unknown number becomes an empty string.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

export function bytes(value, perSecond = false) {
  if (value == null) return "";
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit && value < 99.5 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}${perSecond ? "/s" : ""}`;
}

export function count(value) {
  if (value == null) return "";
  if (value >= 1e7) return `${(value / 1e6).toFixed(1)} M`;
  return Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");
}

export function decimal(value) {
  return value == null ? "" : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function seconds(value) {
  if (value == null) return "";
  if (value < 0.0005) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.9995) return `${+(value * 1000).toPrecision(3)} ms`;
  if (value < 60) return `${+value.toPrecision(3)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor(value % 3600 / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor(value % 86400 / 3600)} h`;
}

export function clock(instant) {
  return new Date(instant * 1000).toLocaleTimeString("en-GB");
}

export function percent(value) {
  return value == null || !isFinite(value) ? "" : `${Math.round(100 * value)} %`;
}
