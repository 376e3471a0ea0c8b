// Curves of a run, or of several: uPlot charts in equal cells with one x axis and one cursor.
//
// The page has
//
//     <section data-metrics-url="/runs/142/metrics.json" aria-label="Metrics">
//       <div class="panels"></div>
//     </section>
//
// and the server decides what is drawn. GET answers
//
//     {
//       "state": "running" | "done",      polled every 2 s until done, while the page is visible
//       "cursor": "1893",                 any string; sent back as ?after=1893. Leave out: no ?after
//       "append": false,                  true: the points follow those already sent
//       "from": 412,                      with append: first drop what was sent from this x on, for
//                                         a bucket that was still filling comes again
//       "x": "step",                      or "episode", "tokens": the word under the cursor
//       "panels": [{
//         "key": "loss",                  unique on the page, stable between answers
//         "title": "Loss",
//         "unit": "",                     "%": values are shares of 1. Others stand after the number
//         "names": ["loss", "eval_loss"], keys of "series"; those not sent yet are skipped
//         "log": false,                   start with a logarithmic y axis
//         "smooth": true,                 false: not averaged by the slider (a schedule, a count)
//         "folded": false,                true: under "more metrics"
//         "help": "",                     a sentence on what the curve says, kept under it, or ""
//         "lines": [{"value": 0.742, "label": "people agree", "low": 0.721, "high": 0.763}]
//       }],                               lines: dashed and named; low and high may be left out
//       "series": {
//         "loss": {
//           "label": "train",
//           "split": "train" | "eval",    eval is dotted, with a dot at each value
//           "colour": 1,                  1..8; left out: by place in the panel, one colour for a
//                                         name and the same name with "eval_" before it
//           "points": [[10, 0.693], [20, 0.681, 0.640, 0.722]],      [x, value] or with min, max
//           "nonfinite": [[30, "nan"]]    "nan", "inf" or "-inf"; a gap and a red mark on the axis
//         }
//       }
//     }
//
// 204 says that nothing is new. An answer with "append": true may leave "panels" out and name only
// the series that grew. Points come in rising x; at most about 2,000 a series keep it quick.
"use strict";
{
    const POLL_MS = 2000;
    const POLL_MAX_MS = 30000;
    const MOST_DIRECT_LABELS = 5;
    const FONT = '11px "Inter", system-ui, sans-serif';

    // ---- Colours: from the tokens, as the theme resolves them now.

    const palette = {};

    const readPalette = () => {
        const probe = document.createElement("span");
        probe.hidden = true;
        document.body.append(probe);
        const names = ["text", "text-quiet", "line", "edge", "surface", "bad"];
        for (let i = 1; i <= 8; i++) names.push(`series-${i}`);
        for (const name of names) {
            probe.style.color = `var(--${name})`;
            palette[name] = getComputedStyle(probe).color;
        }
        probe.remove();
    };

    // ---- Numbers as words

    const compact = (value) => {
        const size = Math.abs(value);
        if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
            return value.toExponential(2).replace(/\.?0*e\+?/, "e").replaceAll("-", "−");
        }
        const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
        return value.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "−");
    };

    const withUnit = (value, unit) => {
        if (value === null || value === undefined) return "–";
        if (unit === "%") return `${compact(value * 100)} %`;
        return unit ? `${compact(value)} ${unit}` : compact(value);
    };

    const whole = (value) => Math.round(value).toLocaleString("en");

    // ---- Series

    // A running average that starts at the first value, so that it does not climb up from zero.
    const smoothed = (values, weight) => {
        let last;
        return values.map((value) => {
            if (value === null) last = undefined;
            if (value === null || value === undefined) return value;
            last = last === undefined ? value : weight * last + (1 - weight) * value;
            return last;
        });
    };

    const quantile = (sorted, share) => sorted[Math.round((sorted.length - 1) * share)];

    const extremes = (points) => {
        let lowest = points[0];
        let highest = points[0];
        for (const point of points) {
            if (point[1] < lowest[1]) lowest = point;
            if (point[1] > highest[1]) highest = point;
        }
        return { lowest, highest, last: points.at(-1) };
    };

    const baseName = (name) => name.replace(/(^|\/)(eval|train)[_/]/, "$1");

    const element = (tag, properties = {}, ...children) => {
        const node = document.createElement(tag);
        for (const [name, value] of Object.entries(properties)) {
            if (name in node) node[name] = value;
            else node.setAttribute(name, value);
        }
        node.append(...children);
        return node;
    };

    const keySymbol = (className) => {
        const namespace = "http://www.w3.org/2000/svg";
        const svg = document.createElementNS(namespace, "svg");
        const line = document.createElementNS(namespace, "line");
        svg.setAttribute("class", `panel-key ${className}`);
        svg.setAttribute("viewBox", "0 0 16 8");
        svg.setAttribute("aria-hidden", "true");
        for (const [name, value] of [["x1", 0], ["x2", 16], ["y1", 4], ["y2", 4]]) {
            line.setAttribute(name, value);
        }
        svg.append(line);
        return svg;
    };

    // ---- One chart

    class Panel {
        constructor(board, description) {
            this.board = board;
            this.key = description.key;
            this.log = Boolean(description.log);
            this.chart = null;
            this.shape = "";
            this.build();
            this.describe(description);
        }

        build() {
            // By number: a metric may have any name, and an id no space.
            const id = `${this.board.syncKey}-panel-${this.board.panels.size + 1}`;
            this.title = element("h3", { className: "panel-title", id });
            this.logButton = element("button", {
                className: "quiet panel-log",
                type: "button",
                title: "Logarithmic y axis",
                "aria-pressed": String(this.log),
                textContent: "log",
            });
            this.values = element("div", { className: "panel-values" });
            this.help = element("p", { className: "panel-help", hidden: true });
            this.plot = element("div", { className: "panel-plot", tabIndex: 0, role: "img" });
            this.plot.setAttribute("aria-roledescription", "chart");
            this.nothing = element("p", { className: "panel-empty", textContent: "No values yet" });
            this.plot.append(this.nothing);
            this.table = element("table");
            this.more = element("summary");
            this.data = element(
                "details",
                { className: "panel-data" },
                this.more,
                this.help,
                this.table,
            );
            this.figure = element(
                "figure",
                { className: "panel", "aria-labelledby": id },
                element("div", { className: "panel-head" }, this.title, this.logButton),
                this.values,
                this.plot,
                this.data,
            );
            this.figure.dataset.panel = this.key;

            this.logButton.addEventListener("click", () => {
                this.log = !this.log;
                this.logButton.setAttribute("aria-pressed", String(this.log));
                this.draw(true);
            });
            this.data.addEventListener("toggle", () => this.fillTable());
            this.plot.addEventListener("keydown", (event) => this.moveCursor(event));
            this.plot.addEventListener("blur", () => this.board.forgetCursor());
            new ResizeObserver(() => this.resize()).observe(this.plot);
        }

        describe(description) {
            this.description = description;
            this.title.replaceChildren(description.title);
            if (description.unit) {
                this.title.append(
                    " ",
                    element("span", { className: "panel-unit", textContent: description.unit }),
                );
            }
            this.help.hidden = !description.help;
            this.help.textContent = description.help ?? "";
            // Not above the curve: plots of a row must start at the same height.
            this.more.textContent = description.help ? "What it says, and its values" : "Values";
        }

        // What is known of the series of this panel, with their colours.
        series() {
            const colours = new Map();
            const found = [];
            for (const name of this.description.names) {
                const known = this.board.series.get(name);
                if (!known) continue;
                const base = baseName(name);
                if (!colours.has(base)) colours.set(base, (colours.size % 8) + 1);
                found.push({ name, ...known, colour: known.colour ?? colours.get(base) });
            }
            return found;
        }

        gather() {
            this.current = this.series().filter((s) => s.points.length || s.nonfinite.length);
            this.nothing.hidden = this.current.length > 0;
        }

        draw(anew = false) {
            this.gather();
            const series = this.current;
            this.resetValues();
            this.plot.setAttribute("aria-label", this.summary());
            if (this.data.open) this.fillTable();
            if (!series.length || !this.plot.clientWidth) return;

            const { data, options, shape } = this.compose(series);
            if (anew || !this.chart || shape !== this.shape) {
                this.chart?.destroy();
                this.shape = shape;
                this.chart = new uPlot(options, data, this.plot);
            } else {
                this.chart.setData(data, false);
                this.applyRange();
            }
        }

        // Rows for uPlot. In a column, undefined is "not measured at this x" and is drawn across;
        // null is "measured, and not a number" and is a gap.
        compose(series) {
            const places = new Set();
            for (const s of series) {
                for (const [x] of s.points) places.add(x);
                for (const [x] of s.nonfinite) places.add(x);
            }
            const xs = [...places].sort((a, b) => a - b);
            const index = new Map(xs.map((x, i) => [x, i]));
            const column = (s, pick) => {
                const values = new Array(xs.length).fill(undefined);
                for (const point of s.points) {
                    const value = pick(point);
                    values[index.get(point[0])] = this.log && value <= 0 ? null : value;
                }
                for (const [x] of s.nonfinite) values[index.get(x)] = null;
                return values;
            };

            const data = [xs];
            const lines = [{}];
            const bands = [];
            const shape = [this.log];
            for (const s of series) {
                const colour = () => palette[`series-${s.colour}`];
                const faint = () => `color-mix(in oklch, ${colour()} 32%, transparent)`;
                if (s.points.some((point) => point.length > 3)) {
                    const at = data.length;
                    data.push(column(s, (p) => p[3] ?? p[1]), column(s, (p) => p[2] ?? p[1]));
                    lines.push({ width: 0, points: { show: false } });
                    lines.push({ width: 0, points: { show: false } });
                    bands.push({
                        series: [at, at + 1],
                        fill: () => `color-mix(in oklch, ${colour()} 14%, transparent)`,
                    });
                    shape.push("band");
                }
                const raw = column(s, (point) => point[1]);
                const evaluated = s.split === "eval";
                const smooth = this.isSmoothed(s);
                if (smooth) {
                    data.push(raw);
                    lines.push({ stroke: faint, width: 1, points: { show: false } });
                }
                data.push(smooth ? smoothed(raw, this.board.smoothing) : raw);
                lines.push({
                    stroke: colour,
                    width: evaluated ? 1.5 : 1.75,
                    dash: evaluated ? [2, 4] : undefined,
                    cap: evaluated ? "round" : "butt",
                    points: {
                        show: evaluated || s.points.length < 3,
                        size: 5,
                        width: 0,
                        fill: colour,
                    },
                });
                shape.push(s.name, smooth, evaluated, s.colour, s.points.length < 3);
            }
            return { data, options: this.options(lines, bands), shape: shape.join() };
        }

        options(lines, bands) {
            const axis = {
                stroke: () => palette["text-quiet"],
                font: FONT,
                ticks: { show: false },
            };
            const unit = this.description.unit;
            return {
                width: this.plot.clientWidth,
                height: this.plot.clientHeight,
                padding: [10, this.board.labelRoom(), 0, 0],
                legend: { show: false },
                series: lines,
                bands,
                scales: {
                    x: { time: false, range: () => this.board.range() },
                    y: { distr: this.log ? 3 : 1, range: (u, low, high) => this.range(low, high) },
                },
                axes: [
                    {
                        ...axis,
                        size: 24,
                        gap: 4,
                        space: 70,
                        grid: { show: false },
                        border: { show: true, stroke: () => palette.line, width: 1 },
                        values: (u, ticks) => ticks.map((t) => (Number.isInteger(t) ? whole(t) : "")),
                    },
                    {
                        ...axis,
                        size: 52,
                        gap: 4,
                        space: 36,
                        grid: { stroke: () => palette.line, width: 1 },
                        values: (u, ticks) =>
                            ticks.map((t) => (t === null ? "" : compact(unit === "%" ? t * 100 : t))),
                    },
                ],
                cursor: {
                    y: false,
                    points: { show: false },
                    drag: { x: true, y: false, setScale: false },
                    // The cursor is shared by uPlot, the zoom by the board: a shared drag would zoom
                    // once for every chart.
                    sync: {
                        key: this.board.syncKey,
                        setSeries: false,
                        filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
                    },
                    bind: { dblclick: () => () => this.board.zoom(null) },
                },
                hooks: {
                    draw: [(u) => this.paint(u)],
                    setCursor: [(u) => this.showAt(u.cursor.idx)],
                    setSelect: [(u) => this.zoomTo(u)],
                },
            };
        }

        zoomTo(u) {
            if (u.select.width < 6) return;
            const from = u.posToVal(u.select.left, "x");
            const to = u.posToVal(u.select.left + u.select.width, "x");
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            this.board.zoom([from, to]);
        }

        // The y axis holds every visible value and every named line, with a little air.
        range(low, high) {
            const given = (this.description.lines ?? []).map((line) => line.value);
            let values = [low, high];
            if (this.board.clip) {
                const [from, to] = this.board.range();
                const seen = this.current
                    .flatMap((s) => s.points.filter(([x]) => x >= from && x <= to).map((p) => p[1]))
                    .filter((value) => !this.log || value > 0)
                    .sort((a, b) => a - b);
                if (seen.length > 20) values = [quantile(seen, 0.01), quantile(seen, 0.99)];
            }
            values = [...values, ...given].filter((value) => Number.isFinite(value));
            if (this.log) values = values.filter((value) => value > 0);
            if (!values.length) return this.log ? [0.1, 1] : [0, 1];
            const least = Math.min(...values);
            const most = Math.max(...values);
            if (this.log) return least === most ? [least / 3, most * 3] : [least / 1.15, most * 1.15];
            const air = (most - least || Math.abs(most) || 1) * 0.06;
            return [least - air, most + air];
        }

        // At the end of its line "accuracy, held out" is "held out" where "accuracy" stands beside it.
        shortLabel(label) {
            const prefix = this.current.find((s) => label.startsWith(`${s.label}, `));
            return prefix ? label.slice(prefix.label.length + 2) : label;
        }

        // Evaluation has few values, and two values make no trend.
        isSmoothed(s) {
            if (this.description.smooth === false || s.split === "eval") return false;
            return this.board.smoothing > 0 && s.points.length > 2;
        }

        hasDirectLabels() {
            const count = this.current?.length ?? 0;
            return count > 1 && count <= MOST_DIRECT_LABELS;
        }

        // On the canvas, after the lines: named lines, labels at the ends, marks for what is no number.
        paint(u) {
            const ratio = u.pxRatio ?? devicePixelRatio;
            const { left, top, width, height } = u.bbox;
            const ctx = u.ctx;
            ctx.save();
            ctx.font = FONT.replace("11px", `${11 * ratio}px`);
            ctx.textBaseline = "middle";

            this.paintLines(u, ctx, ratio);
            this.paintLabels(u, ctx, ratio);
            this.paintNonfinite(u, ctx, ratio);
            ctx.restore();
        }

        paintLines(u, ctx, ratio) {
            const { left, top, width, height } = u.bbox;
            const lines = (this.description.lines ?? [])
                .map((line) => ({ ...line, y: u.valToPos(line.value, "y", true) }))
                .filter((line) => line.y >= top && line.y <= top + height)
                .sort((a, b) => a.y - b.y);
            ctx.fillStyle = ctx.strokeStyle = palette["text-quiet"];
            ctx.lineWidth = ratio;
            for (const line of lines) {
                if (line.low !== undefined && line.high !== undefined && line.low !== null) {
                    const upper = Math.max(top, u.valToPos(line.high, "y", true));
                    const lower = Math.min(top + height, u.valToPos(line.low, "y", true));
                    ctx.globalAlpha = 0.12;
                    ctx.fillRect(left, upper, width, lower - upper);
                    ctx.globalAlpha = 1;
                }
                ctx.setLineDash([5 * ratio, 4 * ratio]);
                ctx.beginPath();
                ctx.moveTo(left, line.y);
                ctx.lineTo(left + width, line.y);
                ctx.stroke();
                ctx.setLineDash([]);
            }

            // The words stand on their lines; those too close to the one above move aside.
            ctx.textAlign = "start";
            ctx.lineJoin = "round";
            ctx.lineWidth = 4 * ratio;
            ctx.strokeStyle = palette.surface;
            let last = { y: -Infinity, end: left };
            for (const line of lines) {
                const words = `${line.label} ${withUnit(line.value, this.description.unit)}`;
                const y = line.y + (line.y - top > 16 * ratio ? -9 : 9) * ratio;
                const x = (y - last.y < 13 * ratio ? last.end : left) + 6 * ratio;
                // A halo in the ground's colour keeps the words readable over the curves.
                ctx.strokeText(words, x, y);
                ctx.fillText(words, x, y);
                last = { y, end: x + ctx.measureText(words).width + 6 * ratio };
            }
        }

        paintLabels(u, ctx, ratio) {
            if (!this.hasDirectLabels()) return;
            const { left, top, width, height } = u.bbox;
            const [, to] = this.board.range();
            const labels = [];
            let at = 0;
            for (const s of this.current) {
                at += s.points.some((point) => point.length > 3) ? 2 : 0;
                at += this.isSmoothed(s) ? 2 : 1;
                const column = u.data[at];
                let i = column.length - 1;
                while (i >= 0 && (column[i] === undefined || column[i] === null || u.data[0][i] > to)) i--;
                if (i < 0) continue;
                const y = u.valToPos(column[i], "y", true);
                labels.push({ text: this.shortLabel(s.label), colour: s.colour, y: Math.min(Math.max(y, top + 6 * ratio), top + height - 6 * ratio) });
            }
            labels.sort((a, b) => a.y - b.y);
            const step = 13 * ratio;
            for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + step);
            const over = (labels.at(-1)?.y ?? 0) - (top + height - 4 * ratio);
            if (over > 0) {
                labels.at(-1).y -= over;
                for (let i = labels.length - 2; i >= 0; i--) labels[i].y = Math.min(labels[i].y, labels[i + 1].y - step);
            }
            ctx.textAlign = "start";
            for (const label of labels) {
                ctx.fillStyle = palette[`series-${label.colour}`];
                ctx.fillText(label.text, left + width + 6 * ratio, label.y);
            }
        }

        paintNonfinite(u, ctx, ratio) {
            const { left, top, width, height } = u.bbox;
            const marks = this.current.flatMap((s) => s.nonfinite);
            ctx.strokeStyle = ctx.fillStyle = palette.bad;
            ctx.lineWidth = 1.5 * ratio;
            ctx.textAlign = "center";
            let free = -Infinity;
            for (const [x, word] of marks) {
                const at = u.valToPos(x, "x", true);
                if (at < left - 1 || at > left + width + 1) continue;
                ctx.beginPath();
                ctx.moveTo(at, top + height - 8 * ratio);
                ctx.lineTo(at, top + height);
                ctx.stroke();
                if (at < free) continue;
                ctx.fillText({ nan: "NaN", inf: "∞", "-inf": "−∞" }[word] ?? word, at, top + height - 15 * ratio);
                free = at + 28 * ratio;
            }
        }

        // ---- Words beside the picture

        resetValues() {
            this.labels = this.current.map((s) => {
                const value = element("strong");
                const dotted = s.split === "eval" ? " is-dotted" : "";
                const line = element("span", {}, keySymbol(`stroke-${s.colour}${dotted}`), s.label, " ", value);
                return { line, value };
            });
            this.at = element("span", { className: "panel-at" });
            this.values.replaceChildren(...this.labels.map((label) => label.line), this.at);
            this.showAt(null);
        }

        showAt(idx) {
            const xs = this.chart?.data[0];
            const x = idx === null || idx === undefined ? null : xs?.[idx];
            const unit = this.description.unit;
            this.current.forEach((s, i) => {
                let point = s.points.at(-1);
                if (x !== null && x !== undefined) point = this.pointNear(s, x);
                this.labels[i].value.textContent = point ? withUnit(point[1], unit) : "–";
            });
            this.at.textContent = x === null || x === undefined ? "" : `at ${this.board.xWord} ${whole(x)}`;
        }

        // The value at x or the last one before it, since train and eval are logged at different steps.
        pointNear(s, x) {
            let low = 0;
            let high = s.points.length;
            while (low < high) {
                const middle = (low + high) >> 1;
                if (s.points[middle][0] <= x) low = middle + 1;
                else high = middle;
            }
            return s.points[low - 1];
        }

        summary() {
            const unit = this.description.unit;
            const word = this.board.xWord;
            const parts = this.current.map((s) => {
                let text = `${s.label}: no finite value`;
                if (s.points.length) {
                    const { lowest, highest, last } = extremes(s.points);
                    text = `${s.label}: last ${withUnit(last[1], unit)} at ${word} ${whole(last[0])}, lowest ${withUnit(lowest[1], unit)} at ${whole(lowest[0])}, highest ${withUnit(highest[1], unit)} at ${whole(highest[0])}`;
                }
                if (s.nonfinite.length) {
                    text += `, not a finite number ${s.nonfinite.length} times, first at ${whole(s.nonfinite[0][0])}`;
                }
                return text;
            });
            for (const line of this.description.lines ?? []) {
                parts.push(`${line.label}: ${withUnit(line.value, unit)}`);
            }
            return `${this.description.title}. ${parts.join(". ") || "No values yet"}.`;
        }

        fillTable() {
            if (!this.data.open) return;
            const unit = this.description.unit;
            const cell = (text) => element("td", { className: "number", textContent: text });
            const head = element("tr");
            for (const word of ["Series", "Last", "Lowest", "Highest", "Points", "Not finite"]) {
                head.append(element("th", { scope: "col", className: word === "Series" ? "" : "number", textContent: word }));
            }
            const body = element("tbody");
            for (const s of this.current) {
                const row = element("tr", {}, element("th", { scope: "row", textContent: s.label }));
                if (s.points.length) {
                    const { lowest, highest, last } = extremes(s.points);
                    for (const point of [last, lowest, highest]) {
                        row.append(cell(`${withUnit(point[1], unit)} (${whole(point[0])})`));
                    }
                } else {
                    row.append(cell("–"), cell("–"), cell("–"));
                }
                row.append(cell(whole(s.points.length)), cell(whole(s.nonfinite.length)));
                body.append(row);
            }
            const caption = element("caption", {
                className: "visually-hidden",
                textContent: `${this.description.title}: values, in brackets the ${this.board.xWord}`,
            });
            this.table.replaceChildren(caption, element("thead", {}, head), body);
        }

        moveCursor(event) {
            if (!this.chart || event.ctrlKey || event.metaKey || event.altKey) return;
            const xs = this.chart.data[0];
            const now = this.chart.cursor.idx ?? xs.length - 1;
            const far = event.shiftKey ? 10 : 1;
            const moves = { ArrowLeft: now - far, ArrowRight: now + far, Home: 0, End: xs.length - 1 };
            if (event.key === "Escape") {
                this.board.forgetCursor();
            } else if (event.key in moves) {
                event.preventDefault();
                const idx = Math.max(0, Math.min(xs.length - 1, moves[event.key]));
                this.values.setAttribute("aria-live", "polite");
                // The last argument tells the other charts too.
                this.chart.setCursor({ left: this.chart.valToPos(xs[idx], "x"), top: 10 }, true, true);
                this.showAt(idx);
            }
        }

        applyRange() {
            const [min, max] = this.board.range();
            this.chart?.batch(() => this.chart.setScale("x", { min, max }));
        }

        resize() {
            if (!this.plot.clientWidth) return;
            if (!this.chart) this.draw();
            else this.chart.setSize({ width: this.plot.clientWidth, height: this.plot.clientHeight });
        }
    }

    // ---- All charts of a section, and where their numbers come from

    let boards = 0;

    class Board {
        constructor(section) {
            this.section = section;
            this.url = section.dataset.metricsUrl;
            this.syncKey = `board-${++boards}`;
            this.series = new Map();
            this.panels = new Map();
            this.xWord = "step";
            this.zoomed = null;
            this.clip = false;
            this.smoothing = this.stored();
            this.wait = POLL_MS;
            this.state = "running";
            this.buildTools();
            this.open = section.querySelector(".panels");
            document.addEventListener("themechange", () => {
                readPalette();
                for (const panel of this.panels.values()) panel.chart?.redraw(false);
            });
            document.addEventListener("visibilitychange", () => {
                if (!document.hidden && this.state !== "done") this.poll();
            });
            this.poll();
        }

        stored() {
            try {
                return Math.min(0.99, Math.max(0, Number(localStorage.getItem("smoothing")) || 0));
            } catch {
                return 0;
            }
        }

        buildTools() {
            const slider = element("input", { type: "range", min: "0", max: "0.99", step: "0.01" });
            slider.value = String(this.smoothing);
            const shown = element("output");
            const word = () => (this.smoothing ? this.smoothing.toFixed(2) : "off");
            shown.textContent = word();
            slider.addEventListener("input", () => {
                this.smoothing = Number(slider.value);
                shown.textContent = word();
                try {
                    localStorage.setItem("smoothing", slider.value);
                } catch {
                    // Not kept for the next page; this one is smoothed all the same.
                }
                this.drawAll();
            });
            const clip = element("input", { type: "checkbox" });
            clip.addEventListener("change", () => {
                this.clip = clip.checked;
                this.drawAll(true);
            });
            this.resetButton = element("button", {
                type: "button",
                className: "small",
                textContent: "Show all steps",
                hidden: true,
            });
            this.resetButton.addEventListener("click", () => this.zoom(null));
            this.live = element("span", { className: "panel-live", role: "status" });
            this.section.prepend(
                element(
                    "div",
                    { className: "panel-tools" },
                    element("label", {}, "Smoothing ", slider, shown),
                    element("label", {}, clip, " Clip outliers"),
                    this.resetButton,
                    this.live,
                ),
            );
        }

        async poll() {
            if (this.asking || document.hidden) return;
            clearTimeout(this.timer);
            this.asking = true;
            try {
                const url = new URL(this.url, location.href);
                if (this.cursor !== undefined) url.searchParams.set("after", this.cursor);
                const answer = await fetch(url, { headers: { Accept: "application/json" } });
                if (answer.status === 200) this.take(await answer.json());
                else if (answer.status !== 204) throw new Error(String(answer.status));
                this.wait = POLL_MS;
                this.live.textContent = "";
            } catch {
                this.wait = Math.min(POLL_MAX_MS, this.wait * 2);
                this.live.textContent = `No answer from the server. Asking again in ${this.wait / 1000} s; the run goes on.`;
            } finally {
                this.asking = false;
            }
            if (this.state !== "done") this.timer = setTimeout(() => this.poll(), this.wait);
        }

        take(answer) {
            this.state = answer.state;
            this.cursor = answer.cursor ?? undefined;
            this.xWord = answer.x ?? this.xWord;
            if (!answer.append) this.series.clear();
            else if (answer.from !== undefined) this.dropFrom(answer.from);
            for (const [name, given] of Object.entries(answer.series ?? {})) {
                const known = this.series.get(name) ?? { points: [], nonfinite: [] };
                this.series.set(name, {
                    ...known,
                    ...given,
                    label: given.label ?? known.label ?? name,
                    points: known.points.concat(given.points ?? []),
                    nonfinite: known.nonfinite.concat(given.nonfinite ?? []),
                });
            }
            for (const description of answer.panels ?? []) this.place(description);
            if (this.folded) {
                const count = this.folded.querySelectorAll(".panel").length;
                this.folded.querySelector("summary").textContent = `${count} more ${count === 1 ? "metric" : "metrics"}`;
            }
            this.drawAll();
        }

        dropFrom(from) {
            for (const known of this.series.values()) {
                known.points = known.points.filter(([x]) => x < from);
                known.nonfinite = known.nonfinite.filter(([x]) => x < from);
            }
        }

        place(description) {
            const known = this.panels.get(description.key);
            if (known) {
                known.describe(description);
                return;
            }
            const panel = new Panel(this, description);
            this.panels.set(description.key, panel);
            if (!description.folded) {
                this.open.append(panel.figure);
                return;
            }
            if (!this.folded) {
                this.folded = element(
                    "details",
                    { className: "panels-folded" },
                    element("summary"),
                    element("div", { className: "panels" }),
                );
                this.section.append(this.folded);
            }
            this.folded.querySelector(".panels").append(panel.figure);
        }

        drawAll(anew = false) {
            this.bounds = null;
            for (const panel of this.panels.values()) panel.gather();
            const room = this.labelRoom();
            const moved = room !== this.room;
            this.room = room;
            for (const panel of this.panels.values()) panel.draw(anew || moved);
        }

        // As wide as the widest label of any panel, so that the same step stands at the same place.
        labelRoom() {
            const labels = [...this.panels.values()]
                .filter((panel) => panel.hasDirectLabels())
                .flatMap((panel) => panel.current.map((s) => panel.shortLabel(s.label).length));
            return labels.length ? Math.min(120, 14 + Math.max(...labels) * 6.2) : 12;
        }

        // One x axis for every chart: what is zoomed to, or all there is.
        range() {
            if (this.zoomed) return this.zoomed;
            if (!this.bounds) {
                let from = Infinity;
                let to = -Infinity;
                for (const { points, nonfinite } of this.series.values()) {
                    for (const list of [points, nonfinite]) {
                        if (!list.length) continue;
                        from = Math.min(from, list[0][0]);
                        to = Math.max(to, list.at(-1)[0]);
                    }
                }
                this.bounds = from <= to ? [from, to > from ? to : from + 1] : [0, 1];
            }
            return this.bounds;
        }

        zoom(range) {
            this.zoomed = range;
            this.resetButton.hidden = range === null;
            for (const panel of this.panels.values()) panel.applyRange();
        }

        forgetCursor() {
            for (const panel of this.panels.values()) {
                panel.values.removeAttribute("aria-live");
                panel.chart?.setCursor({ left: -10, top: -10 }, false);
                if (panel.current) panel.showAt(null);
            }
        }
    }

    document.addEventListener("DOMContentLoaded", () => {
        readPalette();
        for (const section of document.querySelectorAll("[data-metrics-url]")) new Board(section);
    });
}
