"use strict";
// What every other script uses: the board's data, elements made of text alone, and numbers as people read them.
const Page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) node.setAttribute(name, "");
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
    }
    // Strings become text nodes: nothing from the board is ever read as markup.
    node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
    return node;
  }
  const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

  const DASH = "–";
  const absent = (value) => value === null || value === undefined;
  const score = (value) => (absent(value) ? DASH : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3));
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
  const grouped = new Intl.NumberFormat("en");
  const whole = (value) => (absent(value) ? DASH : grouped.format(value));
  const range = (low, high) => (absent(low) || absent(high) ? "" : `${score(low)}–${score(high)}`);

  function milliseconds(value) {
    if (absent(value)) return DASH;
    if (value >= 10000) return `${(value / 1000).toFixed(0)} s`;
    return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
  }
  function duration(seconds) {
    if (absent(seconds)) return DASH;
    if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
    if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  }
  function amount(value) {
    if (absent(value)) return DASH;
    for (const [size, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (value >= size) return `${(value / size).toFixed(value / size >= 100 ? 0 : 1)} ${letter}`;
    }
    return String(value);
  }
  const dollars = (value) => (absent(value) ? DASH : value === 0 ? "free" : `$${value >= 1 ? value.toFixed(2) : value.toPrecision(2)}`);
  const chance = (p) => (p < 0.001 ? "p < .001" : `p = ${p.toFixed(3).replace(/^0/, "")}`);

  const BY_INTERVALS = "compared by intervals: scores by example are not held here or do not fit the others'";
  const byIntervals = (line) => line.paired === false;
  const first = (line) => data.rows[line.rows[0]];
  const metric = (line, name) => (line.metrics || first(line).metrics)[name] || [null, null, null, null, null];
  const windowed = (line, window, name) => ((line.per_window || first(line).per_window || {})[window] || {})[name] || [null, null, null];
  const label = (name) => (Object.hasOwn(data.metrics, name) ? data.metrics[name].label : name);
  // Words about a name; a name of a third party's has none.
  const word = (kind, name) => (Object.hasOwn(data.words[kind], name) ? data.words[kind][name] : "");

  function variant(row) {
    const parts = Object.entries(row.variant || {}).map(([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : value}`);
    if (row.llm) parts.unshift(row.llm.name);
    return parts.join(", ");
  }
  // Names of models and settings have no blanks; a narrow column may break them after an underscore or a dot.
  const breakable = (text) => String(text).split(/(?<=[_.])/).flatMap((part, at) => (at ? [el("wbr"), part] : [part]));
  const named = (row) => [row.model, variant(row)].filter(Boolean).join(" · ");
  const rowLink = (row) => `#row=${encodeURIComponent(row.id)}`;

  return {
    data, el, svg, absent, breakable, DASH, score, signed, whole, range, milliseconds, duration, amount, dollars, chance,
    BY_INTERVALS, byIntervals, first, metric, windowed, label, word, variant, named, rowLink,
  };
})();
