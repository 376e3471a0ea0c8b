// What is painted over the curves: named lines, names at the ends of curves, marks for NaN and Inf.
import { withUnit } from "./chart_numbers.js";
import { FONT, palette } from "./chart_palette.js";

const paintLines = (panel, u, ctx, ratio) => {
    const { left, top, width, height } = u.bbox;
    const lines = (panel.description.lines ?? [])
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
        const words = `${line.label} ${withUnit(line.value, panel.description.unit)}`;
        const y = line.y + (line.y - top > 16 * ratio ? -9 : 9) * ratio;
        const x = (y - last.y < 13 * ratio ? last.end : left) + 6 * ratio;
        // A halo in the ground's colour keeps the words readable over the curves.
        ctx.strokeText(words, x, y);
        ctx.fillText(words, x, y);
        last = { y, end: x + ctx.measureText(words).width + 6 * ratio };
    }
};

const paintLabels = (panel, u, ctx, ratio) => {
    if (!panel.hasDirectLabels()) return;
    const { left, top, width, height } = u.bbox;
    const [, to] = panel.board.range();
    const labels = [];
    let at = 0;
    for (const s of panel.current) {
        at += s.points.some((point) => point.length > 3) ? 2 : 0;
        at += panel.isSmoothed(s) ? 2 : 1;
        const column = u.data[at];
        let i = column.length - 1;
        while (i >= 0 && (column[i] === undefined || column[i] === null || u.data[0][i] > to)) i--;
        if (i < 0) continue;
        const y = u.valToPos(column[i], "y", true);
        labels.push({ text: panel.shortLabel(s.label), colour: s.colour, y: Math.min(Math.max(y, top + 6 * ratio), top + height - 6 * ratio) });
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
};

const paintNonfinite = (panel, u, ctx, ratio) => {
    const { left, top, width, height } = u.bbox;
    const marks = panel.current.flatMap((s) => s.nonfinite);
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
};

export const paint = (panel, u) => {
    const ratio = u.pxRatio ?? devicePixelRatio;
    const { left, top, width, height } = u.bbox;
    const ctx = u.ctx;
    ctx.save();
    ctx.font = FONT.replace("11px", `${11 * ratio}px`);
    ctx.textBaseline = "middle";
    paintLines(panel, u, ctx, ratio);
    paintLabels(panel, u, ctx, ratio);
    paintNonfinite(panel, u, ctx, ratio);
    ctx.restore();
};
