// One chart: its head, the values under the cursor, the curve, and its numbers as a table.
import { compact, extremes, lastOf, quantile, smoothed, whole, withUnit } from "./chart_numbers.js";
import { paint } from "./chart_paint.js";
import { FONT, palette } from "./chart_palette.js";
import { element } from "./element.js";

const MOST_DIRECT_LABELS = 5;

const baseName = (name) => name.replace(/(^|\/)(eval|train)[_/]/, "$1");

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

export class Panel {
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
            const known = this.board.shown(name);
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
                draw: [(u) => paint(this, u)],
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
            let point = lastOf(s);
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
                const { lowest, highest, last } = extremes(s);
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
                const { lowest, highest, last } = extremes(s);
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
