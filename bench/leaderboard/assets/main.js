"use strict";
// Ties the parts together: which group is looked at, the filters, and the address that leads back to both.
(() => {
  const { data, el, first } = Page;
  const FACETS = { dataset: "Data", task: "Task", protocol: "Protocol", condition: "Condition" };
  const ORDER = { task: ["seq", "pos", "neg", "nuanced"], protocol: ["paper", "strict"], condition: ["none", "genre", "genres", "tag", "oracle", "free"], dataset: ["ml-1m"] };
  const SHOWN = { seq: "SEQ", pos: "POS", neg: "NEG", nuanced: "Nuanced" };
  const filters = {
    text: "",
    source: new Set(data.rows.map((row) => row.source)),
    information: new Set(data.rows.map((row) => row.information)),
  };
  let group = null;

  const values = (facet, groups) => [...new Set(groups.map((one) => one[facet]))].sort((a, b) => place(facet, a) - place(facet, b) || String(a).localeCompare(b));
  function place(facet, value) {
    const at = ORDER[facet].indexOf(value);
    return at < 0 ? ORDER[facet].length : at;
  }

  // The group most like the one wished for, with `facet` as wished; facets that stand first on the page weigh most.
  function nearest(wanted, facet) {
    const facets = Object.keys(FACETS);
    const likeness = (one) =>
      facets.reduce((sum, name, at) => sum + (one[name] === wanted[name] ? 2 ** (facets.length - at) : 0), 0) +
      (one.lines.some((line) => line.rank) ? 0.5 : 0);
    const fitting = data.groups.filter((one) => !facet || one[facet] === wanted[facet]);
    return fitting.reduce((best, one) => (likeness(one) > likeness(best) ? one : best));
  }

  function select(next) {
    group = next;
    drawChoice();
    document.getElementById("group-title").textContent = title(group);
    document.getElementById("group-text").textContent = sentence(group);
    Page.table.show(group, filters);
    Page.charts.show(group);
  }

  const title = (one) => [SHOWN[one.task] || one.task, one.dataset, `protocol ${one.protocol}`, one.condition === "none" ? null : `condition ${one.condition}`].filter(Boolean).join(", ");

  function sentence(one) {
    const asked = Math.max(0, ...one.lines.map((line) => first(line).examples || 0));
    return [
      Page.word("task", one.task),
      ["none", "free"].includes(one.condition) ? "" : Page.word("protocol", one.protocol),
      Page.word("condition", one.condition),
      one.windows?.length ? `Values are means over N = ${one.windows.join(", ")}.` : "",
      asked ? `${Page.whole(asked)} examples${one.dataset_fingerprint ? `, data ${one.dataset_fingerprint.slice(0, 8)}` : ""}.` : "",
      one.lines.some(Page.byIntervals) ? "Systems whose scores by example are not held here are compared by intervals." : "",
      one.judge ? `Judged by ${one.judge}.` : "",
    ].filter(Boolean).join(" ");
  }

  function segments(name, legend, options, chosen, shown = String) {
    return el("fieldset", { class: "segments", id: `choice-${name}` }, el("legend", {}, legend),
      options.map((value) => el("label", {},
        el("input", { type: "radio", name, value, checked: value === chosen }), el("span", {}, shown(value)))));
  }

  // Every facet offers what exists under those before it.
  function drawChoice() {
    const form = document.getElementById("choice");
    const focused = document.activeElement?.closest?.("#choice") ? document.activeElement.name : null;
    let left = data.groups;
    const parts = [];
    for (const [facet, legend] of Object.entries(FACETS)) {
      parts.push(segments(facet, legend, values(facet, left), group[facet], (value) => SHOWN[value] || value));
      left = left.filter((one) => one[facet] === group[facet]);
    }
    if (left.length > 1) {
      const finer = left.map((one) => one.id);
      const shown = (id) => {
        const one = left.find((other) => other.id === id);
        return [one.dataset_fingerprint?.slice(0, 8), one.windows?.length && `N ${one.windows.join(", ")}`, one.judge && `judge ${one.judge}`].filter(Boolean).join(" · ") || id;
      };
      parts.push(segments("group", "Examples", finer, group.id, shown));
    }
    form.replaceChildren(...parts);
    // Redrawn under the keyboard: the focus stays on what was just chosen.
    if (focused) form.querySelector(`input[name="${focused}"]:checked`)?.focus();
  }

  function choose(event) {
    const { name, value } = event.target;
    const next = name === "group" ? data.groups.find((one) => one.id === value) : nearest({ ...group, [name]: value }, name);
    history.replaceState(null, "", `#group=${encodeURIComponent(next.id)}`);
    select(next);
  }

  function checks(id, options, set, changed, shown = String) {
    const box = document.getElementById(id);
    for (const value of options) {
      const input = el("input", { type: "checkbox", value, checked: set.has(value) });
      input.addEventListener("change", () => {
        if (input.checked) set.add(value);
        else set.delete(value);
        changed(value, input.checked);
      });
      box.append(el("label", {}, input, el("span", { class: id === "filter-source" ? `mark ${value}` : null }, shown(value))));
    }
  }

  function follow() {
    const [kind, id] = location.hash.slice(1).split("=", 2).map(decoded);
    if (kind === "row") {
      const row = data.rows.findIndex((one) => one.id === id);
      const home = data.groups.find((one) => one.lines.some((line) => line.rows.includes(row)));
      if (home && !group?.lines.some((line) => line.rows.includes(row))) select(home);
      if (row >= 0) Page.details.show(group, group.lines.find((line) => line.rows.includes(row)));
    } else if (kind === "group") {
      const found = data.groups.find((one) => one.id === id);
      if (found && found !== group) select(found);
    }
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  const redraw = () => Page.table.search(filters.text);
  document.getElementById("choice").addEventListener("change", choose);
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("search").addEventListener("input", (event) => {
    filters.text = event.target.value;
    redraw();
  });
  const told = { none: "no words", prompt: "words", oracle: "the truth" };
  checks("filter-source", ["measured", "published", "submitted"].filter((one) => filters.source.has(one)), filters.source, redraw);
  checks("filter-information", ["none", "prompt", "oracle"].filter((one) => filters.information.has(one)), filters.information, redraw, (one) => told[one]);
  checks("column-sets", Object.keys(Page.table.SETS), Page.table.shownSets, (set, on) => Page.table.toggle(set, on), (set) => Page.table.SETS[set]);
  if (!data.groups.length) {
    document.getElementById("group-title").textContent = "The board has no row yet";
    document.getElementById("group-text").textContent = "Evaluate a model with bench run, then build the board again.";
    return;
  }
  addEventListener("hashchange", follow);
  const start = { dataset: "ml-1m", task: "pos", protocol: "paper", condition: "genres" };
  select(nearest(start));
  follow();
})();
