// The numbers of the charts: as words, averaged, and the greatest and least of them.

export const compact = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
        return value.toExponential(2).replace(/\.?0*e\+?/, "e").replaceAll("-", "−");
    }
    const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
    return value.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "−");
};

export const withUnit = (value, unit) => {
    if (value === null || value === undefined) return "–";
    if (unit === "%") return `${compact(value * 100)} %`;
    return unit ? `${compact(value)} ${unit}` : compact(value);
};

export const whole = (value) => Math.round(value).toLocaleString("en");

// A running average that starts at the first value, so that it does not climb up from zero.
export const smoothed = (values, weight) => {
    let last;
    return values.map((value) => {
        if (value === null) last = undefined;
        if (value === null || value === undefined) return value;
        last = last === undefined ? value : weight * last + (1 - weight) * value;
        return last;
    });
};

export const quantile = (sorted, share) => sorted[Math.round((sorted.length - 1) * share)];

// The last point may be a mean of several; beside the chart stands the last value itself.
export const lastOf = ({ points, last }) => {
    const point = points.at(-1);
    return last && last[0] === point?.[0] ? last : point;
};

// Of a point that stands for several, the least and the greatest of them count.
export const extremes = (series) => {
    const [first] = series.points;
    let lowest = [first[0], first[2] ?? first[1]];
    let highest = [first[0], first[3] ?? first[1]];
    for (const [x, value, low = value, high = value] of series.points) {
        if (low < lowest[1]) lowest = [x, low];
        if (high > highest[1]) highest = [x, high];
    }
    return { lowest, highest, last: lastOf(series) };
};
