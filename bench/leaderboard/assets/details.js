"use strict";
// Everything behind one number: what its system was told, every metric and N, what it took, where it comes from, examples.
Page.details = (() => {
  const { data, el, absent, DASH, score, whole, range, milliseconds, duration, amount, dollars, first, metric, windowed, label, word, variant } = Page;
  const dialog = document.getElementById("details");
  const SHOWN_AT_ONCE = 3;

  function show(group, line) {
    const row = first(line);
    const content = el("div", {},
      el("div", { class: "details-head" },
        el("div", {}, el("p", { class: "marks" }, Page.table.marks(row)), el("h2", { id: "details-title" }, Page.breakable(row.model)), variant(row) && el("p", { class: "variant" }, variant(row))),
        el("form", { method: "dialog" }, el("button", { class: "close", "aria-label": "Close" }, "Close"))),
      el("p", { class: "prose" }, told(group, row)),
      numbers(group, line), tests(group, line), printed(row),
      el("div", { class: "facts" }, facts("What it took", took(row)), facts("Where it comes from", origin(row, line)), facts("Settings", settings(row))),
      examples(row));
    dialog.replaceChildren(content);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  function told(group, row) {
    return [
      `${row.model} ${word("information", row.information) || `is told: ${row.information}`}.`, word("task", row.task),
      ["none", "free"].includes(row.condition) ? "" : word("protocol", row.protocol), word("condition", row.condition), word("source", row.source),
      row.condition !== group.condition ? `It is read beside the condition ${group.condition}, which changes nothing for it.` : "",
    ].filter(Boolean).join(" ");
  }

  function numbers(group, line) {
    const windows = Object.keys(line.per_window || first(line).per_window || {}).sort((a, b) => a - b);
    const names = Object.keys(line.metrics || first(line).metrics).sort((a, b) => order(group, a) - order(group, b));
    const cell = ([value, low, high]) => el("td", { class: "number" }, score(value), range(low, high) && el("small", {}, range(low, high)));
    return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All metrics" }, el("table", { class: "plain" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Metric"), el("th", { scope: "col", class: "number" }, windows.length ? "mean over N" : "mean"),
        windows.map((n) => el("th", { scope: "col", class: "number" }, `N = ${n}`)), el("th", { scope: "col", class: "number" }, "examples"), el("th", { scope: "col", class: "number" }, "failed"))),
      el("tbody", {}, names.map((name) => {
        const cells = metric(line, name);
        return el("tr", {}, el("th", { scope: "row", title: data.metrics[name]?.text || null }, label(name)), cell(cells),
          windows.map((n) => cell(windowed(line, n, name))), el("td", { class: "number" }, whole(cells[3])), el("td", { class: "number" }, whole(cells[4])));
      }))));
  }

  function order(group, name) {
    const at = group.metrics.indexOf(name);
    return at < 0 ? group.metrics.length : at;
  }

  function tests(group, line) {
    const lineOf = (system) => group.lines.find((one) => first(one).system === system);
    const nameOf = (system) => (lineOf(system) ? Page.named(first(lineOf(system))) : system);
    const said = [["against_baseline", "Against the baseline"], ["against_best", "Against the best"]]
      .filter(([key]) => line[key])
      .map(([key, text]) => {
        const test = line[key];
        const way = [line, lineOf(test.other)].some((one) => one && Page.byIntervals(one)) ? ", by intervals" : "";
        return `${text}, ${nameOf(test.other)}: ${Page.signed(test.difference)} ${label(group.metric)} (95 % interval ${Page.signed(test.low)} to ${Page.signed(test.high)}; ${Page.chance(test.p_holm)} after Holm's correction${way}).`;
      });
    if (Page.byIntervals(line)) said.push(`${Page.BY_INTERVALS[0].toUpperCase()}${Page.BY_INTERVALS.slice(1)}.`);
    const spread = line.spread?.[group.metric];
    if (spread) said.push(`Over ${line.rows.length} seeds: mean ${score(spread.mean)}, standard deviation ${score(spread.sd)}, from ${score(spread.smallest)} to ${score(spread.largest)}.`);
    return said.length ? el("p", { class: "prose" }, said.join(" ")) : null;
  }

  function printed(row) {
    const told = [...(row.published?.errata || []), ...(row.published?.otherwise || [])];
    if (!told.length) return null;
    return el("details", { class: "errata", open: told.length <= SHOWN_AT_ONCE }, el("summary", {}, `The paper contradicts itself in ${told.length} ${told.length === 1 ? "cell" : "cells"} of this row`),
      el("ul", {}, told.map((one) => el("li", {}, `Table ${one.table}, ${label(one.metric)}${one.window === "mean" ? "" : `, N = ${one.window}`}: printed ${score(one.printed)}, shown here ${score(one.shown ?? one.printed)}. ${one.text}`))));
  }

  function facts(title, pairs) {
    const told = pairs.filter(([, value]) => !absent(value) && value !== "" && value !== DASH);
    if (!told.length) return null;
    return el("section", {}, el("h3", {}, title), el("dl", {}, told.map(([name, value]) => [el("dt", {}, Page.breakable(name)), el("dd", {}, value)])));
  }

  function took(row) {
    const ways = { request: "asked one at a time", call: "calls of an LLM", batch: `share of a batch of ${row.latency?.batch}` };
    return [
      ["Latency", row.latency && `p50 ${milliseconds(row.latency.p50_ms)}, p95 ${milliseconds(row.latency.p95_ms)}, ${ways[row.latency.of] || row.latency.of}`],
      ["Training", row.training && `${duration(row.training.seconds)}${row.training.device ? ` on ${row.training.device}` : ""}, with the models it stands on`],
      ["Parameters", amount(row.parameters)],
      ["Price", row.cost && !absent(row.cost.price) && `${dollars(row.cost.price)}${row.cost.price ? `, ${dollars(row.cost.price_per_1000)} for 1,000 requests` : ""}`],
      ["Tokens", row.cost?.prompt_tokens && `${whole(row.cost.prompt_tokens)} asked, ${whole(row.cost.completion_tokens)} answered`],
      ["Router", row.router && `reads ${(100 * row.router.accuracy).toFixed(1)} % of the polarities right`],
    ];
  }

  function origin(row, line) {
    const made = row.provenance || {};
    return [
      ["Run", line.rows.map((place) => data.rows[place].run).filter(Boolean).join(", ")],
      ["In the paper", row.published && `“${row.published.label}”, ${row.published.tables.length > 1 ? "Tables" : "Table"} ${row.published.tables.join(", ")}`],
      ["Archive", row.submission && `${row.submission.file}, sha256 ${row.submission.sha256}`],
      ["Data", row.dataset_fingerprint && `${row.dataset}, ${row.dataset_fingerprint.slice(0, 16)}`],
      ["Seeds", line.rows.map((place) => data.rows[place].seed).filter((seed) => !absent(seed)).join(", ")],
      ["Version", made.version && `${made.version}${made.commit ? `, commit ${made.commit.slice(0, 10)}${made.dirty ? " with changes" : ""}` : ""}`],
      ["Machine", [made.cpu, made.cores && `${made.cores} cores`, made.gpu].filter(Boolean).join(", ")],
      ["Encoder", row.encoder], ["LLM", row.llm && `${row.llm.model} (${row.llm.engine})`], ["Judge", row.judge?.name],
      ["Knows the data", row.contamination && `${row.contamination.mark ? "yes" : "no sign of it"}: ${row.contamination.rule}`],
    ];
  }

  const settings = (row) => flat(row.settings?.model || {}).map(([name, value]) => [name, String(value)]);
  const flat = (values, prefix = "") => Object.entries(values).flatMap(([key, value]) => (value && typeof value === "object" && !Array.isArray(value) ? flat(value, `${prefix}${key}.`) : [[prefix + key, value]]));

  // Examples lie in files of their own; a page opened from disk may load them as scripts, and in no other way.
  const waiting = new Map();
  function examples(row) {
    const box = el("section", { class: "examples" }, el("h3", {}, "Examples"));
    if (!row.examples_file) {
      box.append(el("p", { class: "aside" }, row.source === "published" ? "The paper gives no examples of this row." : "No examples of this row are on this board. Those of data that may not be passed on are left out unless a board is private."));
      return box;
    }
    const status = el("p", { class: "aside", role: "status" }, "Loading examples …");
    box.append(status);
    waiting.set(row.id, (content) => {
      status.remove();
      if (content.note) box.append(el("p", { class: "aside" }, content.note));
      if (content.private) box.append(el("p", { class: "aside" }, "These data may not be passed on: keep this folder to yourself."));
      box.append(...content.examples.map(example));
    });
    const script = el("script", { src: row.examples_file.replace(/\.json$/, ".js").split("/").map(encodeURIComponent).join("/") });
    script.addEventListener("error", () => { status.textContent = "The file with this row's examples is not in this folder."; });
    script.addEventListener("load", () => script.remove());
    document.head.append(script);
    return box;
  }

  const polarity = (side) => (side > 0 ? "a wish" : side < 0 ? "a refusal" : null);

  function example(one, place) {
    const targets = one.hidden.targets;
    const hits = one.ranking.filter((item) => item.target).length;
    const head = [`User ${one.user}`, one.window ? `N = ${one.window}` : null, `${hits} of ${targets.length} in the first ${one.ranking.length}`].filter(Boolean).join(" · ");
    return el("details", { open: place === 0 }, el("summary", {}, one.prompt ? el("q", {}, one.prompt) : "No words", el("span", { class: "aside" }, head)),
      el("div", { class: "example" },
        el("section", {}, el("h4", {}, one.history_length > one.history.length ? `History, the last ${one.history.length} of ${one.history_length}` : "History"), el("ol", { class: "items" }, one.history.map((item) => el("li", {}, titled(item))))),
        el("section", {}, el("h4", {}, "Recommended"), one.failed && el("p", { class: "failed" }, "This request failed; it counts as 0."),
          el("ol", { class: "items ranking" }, one.ranking.map((item) => el("li", { class: item.target ? "hit" : item.complies === false ? "breaks" : null }, titled(item), item.target && el("span", { class: "tag hit" }, "right"), item.complies === false && el("span", { class: "tag breaks" }, "does not comply"))))),
        el("section", {}, el("h4", {}, "Hidden from the model"),
          el("dl", {}, polarity(one.polarity) && [el("dt", {}, "Meant as"), el("dd", {}, polarity(one.polarity))],
            one.hidden.rule && [el("dt", {}, "About"), el("dd", {}, one.hidden.rule)],
            polarity(one.routed) && [el("dt", {}, "Read as"), el("dd", { class: one.routed === one.polarity ? null : "breaks" }, `${polarity(one.routed)}${absent(one.confidence) ? "" : `, ${(100 * one.confidence).toFixed(0)} % sure`}`)],
            Object.entries(one.metrics || {}).slice(0, 2).map(([name, value]) => [el("dt", {}, label(name)), el("dd", {}, score(value))])),
          el("p", { class: "aside" }, "What counts as right:"), el("ul", { class: "items" }, targets.map((item) => el("li", { class: absent(item.rank) ? null : "hit" }, titled(item), !absent(item.rank) && el("span", { class: "tag hit" }, `place ${item.rank}`)))))));
  }

  const titled = (item) => [el("span", { class: "title" }, item.title ?? `item ${item.item}`), el("span", { class: "labels" }, (item.labels || []).join(", "))];

  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return { show, received: (id, content) => waiting.get(id)?.(content) };
})();
