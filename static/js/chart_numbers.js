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

export const extremes = (points) => {
    let lowest = points[0];
    let highest = points[0];
    for (const point of points) {
        if (point[1] < lowest[1]) lowest = point;
        if (point[1] > highest[1]) highest = point;
    }
    return { lowest, highest, last: points.at(-1) };
};
