"use strict";
// The table of one group: which columns it has, how a system's line is shown, what the filters leave.
Page.table = (() => {
  const { data, el, svg, absent, DASH, score, signed, whole, range, milliseconds, duration, amount, dollars, chance } = Page;
  const { first, metric, windowed, label, variant, rowLink } = Page;
  const PAGE_LENGTH = 50;
  const SETS = { quality: "Quality", more: "By N, at 20", tests: "Tests", cost: "Cost", provenance: "Origin" };
  const shownSets = new Set(innerWidth < 700 ? ["quality"] : ["quality", "cost"]);
  let table = null;
  let shownGroup = null;

  // value: what is sorted and searched; cell: what is shown.
  function columns(group) {
    const main = group.metric;
    const others = group.metrics.filter((name) => name !== main);
    const extent = Math.max(...group.lines.map((line) => metric(line, main)[2] ?? metric(line, main)[0] ?? 0), 1e-9);
    const numeric = (set, name, value, cell, title) => ({ set, name, value, cell, title, numeric: true });
    return [
      numeric("always", "Rank", (line) => line.rank ?? null, (line) => rank(group, line), "Systems that a test does not tell apart share a rank (=)."),
      { set: "always", name: "System", value: (line) => searched(line), sortValue: (line) => Page.named(first(line)), cell: system, header: true },
      numeric("always", label(main), (line) => metric(line, main)[0], (line) => estimate(line, main, true), "Mean with its 95 % interval."),
      { set: "quality", name: "95 % interval", cell: (line) => whisker(line, main, extent), wide: true },
      ...others.map((name) => numeric(name.endsWith("@20") ? "more" : "quality", label(name), (line) => metric(line, name)[0], (line) => estimate(line, name, false))),
      ...(group.windows || []).map((n) => numeric("more", `${label(main)}, N = ${n}`, (line) => windowed(line, n, main)[0], (line) => score(windowed(line, n, main)[0]))),
      numeric("tests", "Against the baseline", (line) => line.against_baseline?.difference, (line) => difference(line.against_baseline), baselineTitle(group)),
      numeric("tests", "Against the best", (line) => line.against_best?.difference, (line) => difference(line.against_best)),
      numeric("cost", "Latency p50", (line) => first(line).latency?.p50_ms, (line) => latency(first(line))),
      numeric("cost", "p95", (line) => first(line).latency?.p95_ms, (line) => milliseconds(first(line).latency?.p95_ms)),
      numeric("cost", "Price of 1,000", (line) => first(line).cost?.price_per_1000, (line) => dollars(first(line).cost?.price_per_1000)),
      numeric("cost", "Training", (line) => first(line).training?.seconds, (line) => duration(first(line).training?.seconds)),
      numeric("cost", "Parameters", (line) => first(line).parameters, (line) => amount(first(line).parameters)),
      { set: "provenance", name: "Condition", value: (line) => first(line).condition, cell: (line) => first(line).condition },
      { set: "provenance", name: "Encoder", value: (line) => first(line).encoder ?? "", cell: (line) => first(line).encoder ?? DASH },
      { set: "provenance", name: "LLM", value: (line) => first(line).llm?.name ?? "", cell: (line) => first(line).llm?.name ?? DASH },
      { set: "provenance", name: "Knows the data", value: (line) => contamination(first(line)), cell: (line) => contamination(first(line)) },
      numeric("provenance", "Examples", (line) => first(line).examples, (line) => whole(first(line).examples)),
      { set: "provenance", name: "Seeds", value: (line) => seeds(line), cell: (line) => seeds(line) },
    ];
  }

  function searched(line) {
    const row = first(line);
    return [row.model, variant(row), row.source, row.information, row.encoder, row.llm?.model, row.published?.label].filter(Boolean).join(" ");
  }

  function baselineTitle(group) {
    const line = group.lines.find((one) => first(one).system === group.baseline);
    return line ? `Difference from ${Page.named(first(line))}` : "";
  }

  function rank(group, line) {
    if (absent(line.rank)) return DASH;
    const shared = group.lines.filter((other) => other.rank === line.rank).length > 1;
    const title = [shared && "shared: the test does not tell these systems apart", Page.byIntervals(line) && Page.BY_INTERVALS].filter(Boolean).join("; ");
    const shown = `${line.rank}${shared ? "=" : ""}`;
    return title ? el("span", { title }, shown) : shown;
  }

  function marks(row) {
    return [
      el("span", { class: `mark ${row.source}` }, row.source),
      row.information === "oracle" && el("span", { class: "chip", title: Page.word("information", "oracle") }, "oracle"),
      row.information === "none" && el("span", { class: "chip faint", title: Page.word("information", "none") }, "hears nothing"),
      row.contamination?.mark && el("span", { class: "chip warning", title: row.contamination.rule }, "knows the data"),
      row.published && el("span", { class: "variant" }, `“${row.published.label}”`),
      row.published?.errata && el("span", { class: "chip", title: "The paper contradicts itself here; see the details." }, "erratum"),
      row.limit && el("span", { class: "chip warning" }, `${row.limit} users`),
    ];
  }

  function system(line) {
    const row = first(line);
    return el("div", { class: "system" },
      el("span", {}, el("a", { href: rowLink(row), class: "name" }, Page.breakable(row.model)), variant(row) && el("span", { class: "variant" }, ` ${variant(row)}`)),
      el("span", { class: "marks" }, marks(row), line.rows.length > 1 && el("span", { class: "chip" }, `${line.rows.length} seeds`)));
  }

  function estimate(line, name, withRange) {
    const [value, low, high, , failed] = metric(line, name);
    const bounds = withRange && range(low, high);
    return el("span", { class: withRange ? "main" : null },
      score(value), erratum(first(line), name) && el("sup", { title: "see the details: the paper prints another value elsewhere, or one that cannot be right" }, "†"),
      bounds && el("small", {}, bounds), failed > 0 && el("small", { class: "failed" }, `${whole(failed)} failed`));
  }

  function erratum(row, name) {
    const told = [...(row.published?.errata || []), ...(row.published?.otherwise || [])];
    return told.some((one) => one.metric === name && one.window === "mean");
  }

  // A forest plot of one line; all lines of the table share the axis from 0 to `extent`.
  function whisker(line, name, extent) {
    const [value, low, high] = metric(line, name);
    if (absent(value)) return "";
    const at = (x) => (4 + (112 * Math.max(0, x)) / extent).toFixed(1);
    const { source } = first(line);
    const glyph = source === "published"
      ? svg("path", { d: `M${at(value)} 3.5l4.5 4.5-4.5 4.5-4.5-4.5z` })
      : source === "submitted"
        ? svg("path", { d: `M${at(value)} 3.5l4.5 8h-9z` })
        : svg("circle", { cx: at(value), cy: 8, r: 3 });
    return svg("svg", { viewBox: "0 0 120 16", width: 120, height: 16, class: `whisker ${source}`, "aria-hidden": "true" },
      svg("line", { class: "axis", x1: 4, x2: 116, y1: 8, y2: 8 }),
      !absent(low) && svg("line", { class: "interval", x1: at(low), x2: at(high), y1: 8, y2: 8 }), glyph);
  }

  function difference(test) {
    if (!test) return DASH;
    const title = `95 % interval ${signed(test.low)} to ${signed(test.high)}; p after Holm's correction`;
    return el("span", { class: test.p_holm < 0.05 ? "" : "undecided", title }, signed(test.difference), el("small", {}, chance(test.p_holm)));
  }

  function latency(row) {
    if (!row.latency) return DASH;
    const { of, batch } = row.latency;
    const note = of === "batch" ? `share of ${whole(batch)}` : of === "call" ? "an LLM's call" : null;
    return el("span", {}, milliseconds(row.latency.p50_ms), note && el("small", { title: "A request's share of the time of its batch; nobody waits as little as this." }, note));
  }

  const contamination = (row) => (row.contamination ? (row.contamination.mark ? "yes" : "no sign") : row.llm ? "not probed" : DASH);
  const seeds = (line) => line.rows.map((place) => data.rows[place].seed ?? DASH).join(", ");

  function compare(a, b) {
    return typeof a === "string" ? a.localeCompare(b) : a - b;
  }

  // Empty cells stay below, whichever way a column is sorted.
  DataTable.type("filled", {
    order: {
      asc: (a, b) => (absent(a) ? 1 : 0) - (absent(b) ? 1 : 0) || (absent(a) ? 0 : compare(a, b)),
      desc: (a, b) => (absent(a) ? 1 : 0) - (absent(b) ? 1 : 0) || (absent(a) ? 0 : compare(b, a)),
    },
  });

  const asNode = (cell) => (typeof cell === "string" ? document.createTextNode(cell) : cell);

  // Part of every table's search from its first drawing on; a filter set later would draw each table twice.
  let filters = null;
  DataTable.ext.search.push((_, __, ___, line) => filters.source.has(first(line).source) && filters.information.has(first(line).information));

  // Cells of columns that are not shown are never made: they would be most of the work of another choice.
  function show(group, chosen, sorted = null) {
    filters = chosen;
    const defined = columns(group)
      .filter((column) => column.set === "always" || shownSets.has(column.set))
      .filter((column) => !column.numeric || column.name === "Rank" || group.lines.some((line) => !absent(column.value(line))));
    const head = defined.map((column) => el("th", { scope: "col", title: column.title || null, class: column.numeric ? "number" : null }, column.name));
    const element = el("table", { id: "table" }, el("thead", {}, el("tr", {}, head)));
    document.getElementById("table-region").replaceChildren(element);
    // The old table is out of sight by now; taking it apart can wait until nobody waits.
    const old = table;
    if (old) setTimeout(() => old.destroy(), 500);
    const wanted = defined.findIndex((column) => column.name === sorted?.name);
    const main = defined.findIndex((column) => column.name === label(group.metric));
    table = new DataTable(element, {
      data: group.lines,
      autoWidth: false,
      deferRender: true,
      pageLength: PAGE_LENGTH,
      lengthMenu: [PAGE_LENGTH, 200, { label: "all", value: -1 }],
      paging: group.lines.length > PAGE_LENGTH,
      order: [wanted < 0 ? [main, data.metrics[group.metric]?.lower ? "asc" : "desc"] : [wanted, sorted.direction]],
      orderMulti: false,
      search: { search: filters.text },
      drawCallback() {
        // A click on a head is drawn a moment later, and by then another choice may stand here.
        if (element.isConnected) tell(group, this.api());
      },
      layout: { topStart: null, topEnd: null, bottomStart: group.lines.length > PAGE_LENGTH ? "pageLength" : null, bottomEnd: group.lines.length > PAGE_LENGTH ? "paging" : null },
      language: { lengthMenu: "_MENU_ systems on a page", emptyTable: "No row.", zeroRecords: "No row is left by these filters." },
      createdRow: (row, line) => row.classList.add(first(line).source, absent(line.rank) ? "beside" : "ranked"),
      columns: defined.map((column) => ({
        data: null,
        type: "filled",
        className: [column.numeric ? "number" : "", column.header ? "head" : "", `set-${column.set}`].join(" ").trim(),
        cellType: column.header ? "th" : "td",
        orderable: Boolean(column.value),
        searchable: Boolean(column.value) && !column.numeric,
        orderSequence: column.numeric && column.name !== "Rank" ? ["desc", "asc"] : ["asc", "desc"],
        render: (line, type) => {
          // DataTables takes a string for markup, and a node for what it is.
          if (type === "display") return asNode(column.cell(line));
          const value = type === "sort" && column.sortValue ? column.sortValue(line) : column.value?.(line);
          return type === "filter" && typeof value === "string" ? value.replace(/[&<>]/g, " ") : (value ?? null);
        },
      })),
    });
    table.names = defined.map((column) => column.name);
    shownGroup = group;
  }

  function search(text) {
    table.search(text).draw();
  }

  function toggle(set, on) {
    if (on) shownSets.add(set);
    else shownSets.delete(set);
    const [[place, direction]] = table.order();
    show(shownGroup, filters, { name: table.names[place], direction });
  }

  function tell(group, drawn) {
    const left = drawn.rows({ search: "applied" }).data().toArray();
    const ranked = left.filter((line) => !absent(line.rank)).length;
    const beside = ranked < left.length ? ", the others are there to be read beside them" : "";
    document.getElementById("status").textContent =
      `${whole(left.length)} of ${whole(group.lines.length)} systems shown; ${whole(ranked)} of them have a rank${beside}.`;
  }

  return { show, search, toggle, marks, estimate, difference, SETS, shownSets };
})();
