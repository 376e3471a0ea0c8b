// Colours of the charts, from the tokens as the theme resolves them now, and their letters.

export const FONT = '11px "Inter", system-ui, sans-serif';

export const palette = {};

export const readPalette = () => {
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
