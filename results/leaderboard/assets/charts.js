"use strict";
// The questions as charts. Points come with the data; here they are only drawn, redrawn at another width, and named.
Page.charts = (() => {
  const { data, el, svg, absent, first, score, range, milliseconds, dollars, named, rowLink, label } = Page;
  const SOURCES = ["published", "submitted", "measured"];
  const SYMBOLS = { measured: "circle", published: "diamond", submitted: "triangle" };
  const TASKS = { seq: "SEQ", pos: "POS", neg: "NEG", nuanced: "Nuanced" };
  const LABEL_HEIGHT = 13;
  const MOST_NAMES = 16;
  let group = null;
  let stale = new Set();

  const groupById = new Map(data.groups.map((one) => [one.id, one]));
  const lineOf = (point) => (point.group ? groupById.get(point.group) : group).lines[point.line];
  const rowOf = (point) => first(lineOf(point));
  const colour = (point) => `var(--${rowOf(point).source})`;
  const metricName = () => label(group.metric);
  const described = (point, ...facts) => [`${named(rowOf(point))} (${rowOf(point).source}${rowOf(point).information === "oracle" ? ", oracle" : ""})`, ...facts].join("\n");
  const withRange = (value, low, high) => `${score(value)}${range(low, high) && ` (${range(low, high)})`}`;

  // What all charts share. Plot's own <style> would break the page's policy; page.css has what was in it.
  function plot(box, options) {
    const width = Math.max(260, box.clientWidth);
    const drawn = Plot.plot({
      className: "plot-svg", width, height: Math.round(Math.min(380, Math.max(270, width * 0.62))),
      marginLeft: 46, marginRight: 18, marginTop: 26, marginBottom: 42, style: null, ...options,
    });
    drawn.querySelectorAll("style").forEach((node) => node.remove());
    box.replaceChildren(drawn);
    // A link's name is that of the mark in it.
    for (const link of drawn.querySelectorAll("a")) {
      const marked = link.querySelector("[aria-label]");
      if (marked) link.setAttribute("aria-label", marked.getAttribute("aria-label"));
    }
    return drawn;
  }

  function dots(points, facts, extra = {}) {
    return SOURCES.flatMap((source) => {
      const own = points.filter((point) => rowOf(point).source === source);
      const hollow = (point) => source === "published" || point.of === "batch" || rowOf(point).information === "oracle";
      return own.length ? [
        Plot.ruleX(own.filter((point) => !absent(point.low)), { x: "x", y1: "low", y2: "high", stroke: `var(--${source})`, strokeOpacity: 0.55, strokeWidth: 1.5 }),
        Plot.ruleY(own.filter((point) => !absent(point.x_high)), { y: "y", x1: (point) => point.x_low ?? point.x, x2: "x_high", stroke: `var(--${source})`, strokeOpacity: extra.tail ?? 0.55, strokeWidth: 1.5 }),
        Plot.dot(own, {
          x: "x", y: "y", symbol: SYMBOLS[source], r: 4.5, stroke: `var(--${source})`, strokeWidth: 1.5,
          fill: (point) => (hollow(point) ? "var(--ground)" : `var(--${source})`),
          href: (point) => rowLink(rowOf(point)), ariaLabel: (point) => facts(point).replaceAll("\n", ", "),
        }),
      ] : [];
    });
  }

  const tip = (points, facts) => Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: facts, fill: "var(--raised)", stroke: "var(--line)", fontSize: 12, lineHeight: 1.3 }));

  // Names beside their points, the most telling first; a name that would cover another or a point is left to the pointer.
  function name(drawn, points, textOf = (point) => named(rowOf(point))) {
    const [xs, ys] = [drawn.scale("x"), drawn.scale("y")];
    const [right, bottom] = [drawn.width.baseVal.value, drawn.height.baseVal.value];
    const layer = svg("g", { class: "names", "aria-hidden": "true" });
    // Under the pointer's box, which would be unreadable with names on it.
    drawn.insertBefore(layer, drawn.querySelector("[aria-label=tip]"));
    const places = points.map((point) => ({ point, x: xs.apply(point.x), y: ys.apply(point.y) }));
    const taken = places.map(({ x, y }) => ({ x: x - 6, y: y - 6, width: 12, height: 12 }));
    const clashes = (box) => taken.some((other) => box.x < other.x + other.width && other.x < box.x + box.width && box.y < other.y + other.height && other.y < box.y + box.height);
    const weight = ({ point }) => (point.front ? 4 : 0) + (lineOf(point).rank ? 2 : 0) + (rowOf(point).source === "published" ? 0 : 1);
    for (const { point, x, y } of places.sort((a, b) => weight(b) - weight(a) || b.point.y - a.point.y).slice(0, MOST_NAMES)) {
      const text = svg("text", { class: `${rowOf(point).source}${point.front ? " front" : ""}` }, textOf(point));
      layer.append(text);
      const width = text.getComputedTextLength();
      const spots = [[x + 9, y + 4], [x - 9 - width, y + 4], [x - width / 2, y - 10], [x - width / 2, y + 18], [x + 7, y - 7], [x + 7, y + 15], [x - 7 - width, y - 7], [x - 7 - width, y + 15]];
      const spot = spots.map(([left, base]) => ({ x: left, y: base - LABEL_HEIGHT + 3, width, height: LABEL_HEIGHT, base }))
        .find((box) => box.x > 48 && box.x + width < right - 2 && box.y > 2 && box.base < bottom - 40 && !clashes(box));
      if (!spot) {
        text.remove();
        continue;
      }
      text.setAttribute("x", spot.x);
      text.setAttribute("y", spot.base);
      taken.push(spot);
    }
  }

  const yAxis = (points) => ({ label: `↑ ${metricName()}`, domain: [0, 1.06 * Math.max(...points.map((point) => point.high ?? point.y), 1e-6)], grid: true, nice: true, ticks: 5 });

  function frontiers(points) {
    const kinds = [...new Set(points.filter((point) => point.front).map((point) => point.of))];
    return kinds.map((kind) => Plot.line(points.filter((point) => point.front && point.of === kind).sort((a, b) => a.x - b.x),
      { x: "x", y: "y", curve: "step-after", stroke: "var(--front)", strokeWidth: 1.5, strokeDasharray: kind === "batch" ? "2 3" : null }));
  }

  function latency(box, { points }) {
    const seen = points.filter((point) => point.x > 0);
    const kinds = { request: "asked alone", call: "calls of an LLM", batch: "share of a batch" };
    const facts = (point) => described(point, `${metricName()} ${withRange(point.y, point.low, point.high)}`, `p50 ${milliseconds(point.x)}, p95 ${milliseconds(point.x_high)}`, point.of === "batch" ? `share of a batch of ${point.batch}` : kinds[point.of]);
    const drawn = plot(box, {
      x: { type: "log", label: "milliseconds a request, p50 with a tail to p95 →", ticks: 5, tickFormat: (value) => value.toLocaleString("en", { maximumSignificantDigits: 1 }) },
      y: yAxis(seen), marks: [...frontiers(seen), ...dots(seen, facts, { tail: 0.3 }), tip(seen, facts)],
    });
    name(drawn, seen);
    const batch = seen.some((point) => point.of === "batch") ? " A hollow dot is a request's share of its batch: nobody waits as little, so such dots are compared with each other only." : "";
    return `${frontText(seen, "faster", (point) => milliseconds(point.x))}${batch}`;
  }

  function price(box, { points }) {
    // A price of 0 has no place on a logarithmic axis: it stands a decade below the smallest one.
    const least = Math.min(...points.filter((point) => point.x > 0).map((point) => point.x)) / 10;
    const placed = points.map((point) => ({ ...point, x: point.x || least }));
    const facts = (point) => described(point, `${metricName()} ${withRange(point.y, point.low, point.high)}`, point.x > least ? `${dollars(point.x)} for 1,000 requests` : "free");
    const drawn = plot(box, {
      x: { type: "log", label: "US dollars for 1,000 requests →", ticks: 5, tickFormat: (value) => (value <= least * 1.01 ? "free" : value < least * 9 ? "" : `$${value.toLocaleString("en", { maximumSignificantDigits: 1 })}`) },
      y: yAxis(placed), marks: [...frontiers(placed), ...dots(placed, facts), tip(placed, facts)],
    });
    name(drawn, placed);
    return frontText(placed, "cheaper", (point) => (point.x > least ? dollars(point.x) : "free"));
  }

  function frontText(points, cheaper, shown) {
    const front = points.filter((point) => point.front).sort((a, b) => a.x - b.x);
    return front.length ? `Nothing is both better and ${cheaper} than ${front.map((point) => `${named(rowOf(point))} (${shown(point)})`).join(", ")}.` : "";
  }

  function polarity(box, { points }) {
    const facts = (point) => described(point, `POS ${withRange(point.y, point.low, point.high)}`, `NEG ${withRange(point.x, point.x_low, point.x_high)}`);
    const drawn = plot(box, {
      x: { label: `NEG ${metricName()} →`, domain: [0, 1.06 * Math.max(...points.map((point) => point.x_high ?? point.x))], nice: true, ticks: 5, grid: true },
      y: { ...yAxis(points), label: `↑ POS ${metricName()}` }, marks: [...dots(points, facts), tip(points, facts)],
    });
    name(drawn, points);
    const best = (key) => named(rowOf(points.filter((point) => rowOf(point).information !== "oracle").reduce((a, b) => (b[key] > a[key] ? b : a))));
    return `Highest on wishes: ${best("y")}. Highest on refusals: ${best("x")}.`;
  }

  function compliance(box, { points }) {
    const percent = (value) => `${(100 * value).toFixed(0)} %`;
    const facts = (point) => described(point, `${metricName()} ${withRange(point.y, point.low, point.high)}`, `${percent(point.x)} of the first ten comply`);
    const drawn = plot(box, {
      x: { label: "share of the first ten that complies →", domain: [Math.min(0.5, ...points.map((point) => point.x)) < 0.5 ? 0 : 0.5, 1.005], tickFormat: percent, ticks: 5, grid: true },
      y: yAxis(points), marks: [...dots(points, facts), tip(points, facts)],
    });
    name(drawn, points);
    return "Complying is easy for a list that nobody wants: what counts is to stand high and right. The paper prints no compliance.";
  }

  function rerank(box, { points }) {
    const facts = (point) => described(point, `K = ${point.x}`, `${metricName()} ${withRange(point.y, point.low, point.high)}`);
    const ends = [...d3.group(points, (point) => point.series).values()].map((own) => own.reduce((a, b) => (b.x > a.x ? b : a)));
    const alone = group.lines.filter((line) => first(line).source === "measured" && (first(line).model === "sasrec" || line.rank === 1) && !points.some((point) => lineOf(point) === line));
    const values = alone.map((line) => ({ line, y: Page.metric(line, group.metric)[0] })).filter((one) => !absent(one.y));
    const drawn = plot(box, {
      marginRight: 150,
      x: { label: "K, candidates given to the language model →", domain: [0, 1.05 * Math.max(...points.map((point) => point.x))], ticks: [...new Set(points.map((point) => point.x))], tickFormat: String },
      y: yAxis([...points, ...values]),
      marks: [
        Plot.ruleY(values, { y: "y", stroke: "var(--faint)", strokeDasharray: "3 3" }),
        Plot.text(values, { y: "y", text: (one) => named(first(one.line)), frameAnchor: "left", dx: 4, dy: -7, textAnchor: "start", fill: "var(--muted)" }),
        ...SOURCES.map((source) => Plot.line(points.filter((point) => rowOf(point).source === source), { x: "x", y: "y", z: "series", sort: "x", stroke: `var(--${source})`, strokeWidth: 1.5 })),
        ...dots(points, facts),
        tip(points, facts),
      ],
    });
    name(drawn, ends, (point) => seriesName(rowOf(point)));
    return "Dashed lines are systems that rank the whole catalogue without a language model.";
  }

  // The paper's label says model and K ("DeepSeek-V3 K=50"); on a line of all K the model is left.
  const seriesName = (row) => [(row.published?.label || row.llm?.name || row.model).replace(/\s*K=\d+$/, ""), row.variant?.base && `over ${row.variant.base}`].filter(Boolean).join(" ");

  function stages(box, { points }) {
    const ends = points.flatMap((pair) => [{ ...pair.two, task: pair.task, stages: 2 }, { ...pair.three, task: pair.task, stages: 3 }]);
    const lane = (point) => `${TASKS[point.task]}  ${rowOf(point).model}${rowOf(point).source === "published" ? ", paper" : ""}`;
    for (const point of ends) {
      point.lane = lane(point);
      point.x = point.y;
      point.x_low = point.low;
      point.x_high = point.high;
    }
    const facts = (point) => described(point, `${point.stages} stages: ${metricName()} ${withRange(point.x, point.x_low, point.x_high)}`);
    const lanes = [...new Set(ends.map((point) => point.lane))];
    plot(box, {
      marginLeft: 136, height: 70 + 30 * lanes.length,
      x: { label: `${metricName()} →`, grid: true, domain: [0, 1.08 * Math.max(...ends.map((point) => point.high ?? point.x))], nice: true, ticks: 5 },
      y: { domain: lanes, label: null, tickSize: 0 },
      marks: [
        Plot.link(points, { x1: (pair) => pair.two.y, x2: (pair) => pair.three.y, y1: (pair) => lane({ ...pair.two, task: pair.task }), y2: (pair) => lane({ ...pair.two, task: pair.task }), stroke: "var(--faint)", strokeWidth: 2 }),
        Plot.ruleY(ends.filter((point) => !absent(point.x_low)), { y: "lane", x1: "x_low", x2: "x_high", stroke: colour, strokeOpacity: 0.5 }),
        Plot.dot(ends, { x: "x", y: "lane", r: 5, stroke: colour, strokeWidth: 1.5, fill: (point) => (point.stages === 3 ? colour(point) : "var(--ground)"), href: (point) => rowLink(rowOf(point)), ariaLabel: (point) => facts(point).replaceAll("\n", ", ") }),
        Plot.tip(ends, Plot.pointer({ x: "x", y: "lane", title: facts, fill: "var(--raised)", stroke: "var(--line)", fontSize: 12 })),
      ],
    });
    const better = points.filter((pair) => pair.three.y > pair.two.y).length;
    return `Filled: genres before tags (3 stages). Hollow: tags at once (2 stages). Three stages are higher in ${better} of ${points.length}.`;
  }

  const DRAW = { latency, price, polarity, compliance, rerank, stages };

  function draw(figure) {
    const id = figure.id.replace("chart-", "");
    if (!group || !stale.delete(id)) return;
    const chart = group.charts[id];
    const [answer, box] = [figure.querySelector(".answer"), figure.querySelector(".plot")];
    figure.classList.toggle("missing", Boolean(chart.missing));
    if (chart.missing) {
      box.replaceChildren();
      answer.textContent = chart.missing;
    } else {
      answer.textContent = DRAW[id](box, chart);
    }
  }

  const figures = [...document.querySelectorAll("figure[id^=chart-]")];
  // Only what is looked at is drawn, so that a click on the table's choices waits for no chart.
  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && draw(entry.target)), { rootMargin: "200px" });
  const widths = new Map();
  const resized = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (Math.abs((widths.get(target) ?? contentRect.width) - contentRect.width) > 8) again(target);
      widths.set(target, contentRect.width);
    }
  });

  function again(figure) {
    stale.add(figure.id.replace("chart-", ""));
    seen.unobserve(figure);
    seen.observe(figure);
  }

  function show(next) {
    group = next;
    const scope = [group.dataset, `protocol ${group.protocol}`, group.condition === "none" ? null : `condition ${group.condition}`].filter(Boolean).join(", ");
    document.getElementById("questions-text").textContent = `About the choice above: ${TASKS[group.task] || group.task} on ${scope}. A point leads to its system; so does Tab and Enter.`;
    figures.forEach(again);
  }

  function legend() {
    const shapes = { measured: svg("circle", { cx: 8, cy: 8, r: 4.5 }), published: svg("path", { d: "M8 2.5l5.5 5.5-5.5 5.5-5.5-5.5z" }), submitted: svg("path", { d: "M8 3l5.5 9.5h-11z" }) };
    document.getElementById("legend").append(
      ...Object.entries(shapes).map(([source, shape]) => el("span", {}, svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, class: `whisker ${source}`, "aria-hidden": "true" }, shape), source)),
      el("span", { class: "aside" }, "bars: 95 % intervals · hollow circle: an oracle, or a share of a batch"));
  }

  // Paper has no part that is not looked at.
  addEventListener("beforeprint", () => figures.forEach(draw));
  legend();
  figures.forEach((figure) => resized.observe(figure));
  return { show };
})();
