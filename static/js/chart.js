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
//       "width": 64,                      steps that a point stands for. More than 1: a zoom asks for
//                                         ?from=412&to=900, and gets "from", "width" and "series"
//                                         of that stretch alone, drawn in place of the coarse one
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
//           "last": [20, 0.664],          the last value itself, where the last point is a mean
//           "nonfinite": [[30, "nan"]]    "nan", "inf" or "-inf"; a gap and a red mark on the axis
//         }
//       }
//     }
//
// 204 says that nothing is new. An answer with "append": true may leave "panels" out and name only
// the series that grew. Points come in rising x; at most about 2,000 a series keep it quick.
import { readPalette } from "./chart_palette.js";
import { Panel } from "./chart_panel.js";
import { element } from "./element.js";

const POLL_MS = 2000;
const POLL_MAX_MS = 30000;

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
        this.detail = null;
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
        this.width = answer.width ?? this.width;
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
        const grew = !answer.append || (answer.from !== undefined && answer.from <= this.zoomed?.[1]);
        if (this.zoomed && grew) this.fetchDetail();
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
        if (range) this.fetchDetail();
        else if (this.detail) {
            this.detail = null;
            this.drawAll();
        }
    }

    // What is zoomed to, in the narrow buckets that there is room for now. Without an answer the
    // coarse ones stay.
    async fetchDetail() {
        if (!(this.width > 1)) return;
        const range = this.zoomed;
        const to = Math.ceil(range[1]);
        const url = new URL(this.url, location.href);
        url.searchParams.set("from", Math.max(0, Math.floor(range[0])));
        url.searchParams.set("to", Math.max(0, to));
        const answer = await fetch(url).then(
            (found) => (found.ok ? found.json() : null),
            () => null,
        );
        if (!answer || this.zoomed !== range) return;
        this.detail = { from: answer.from, to, series: answer.series };
        this.drawAll();
    }

    // A series as it is drawn: coarse, but fine where it is zoomed to.
    shown(name) {
        const known = this.series.get(name);
        if (!known || !this.detail) return known;
        const { from, to, series } = this.detail;
        const mixed = (which) => [
            ...known[which].filter(([x]) => x < from),
            ...(series[name]?.[which] ?? []),
            ...known[which].filter(([x]) => x > (series[name]?.[which].at(-1)?.[0] ?? to) && x > to),
        ];
        return { ...known, points: mixed("points"), nonfinite: mixed("nonfinite") };
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
