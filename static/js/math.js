// Draws LaTeX in `.math` nodes (`.math.block` on a line of its own) with KaTeX.
// What KaTeX cannot read stays as the text that was written.
"use strict";
{
    const draw = (root) => {
        for (const node of root.querySelectorAll(".math:not([data-drawn])")) {
            const source = node.textContent;
            node.dataset.drawn = "";
            try {
                katex.render(source, node, {
                    displayMode: node.classList.contains("block"),
                    output: "htmlAndMathml",
                    throwOnError: true,
                    trust: false,
                    maxExpand: 500,
                    maxSize: 20,
                });
                // A long formula scrolls in its own box; the keyboard must reach it.
                if (node.classList.contains("block")) node.tabIndex = 0;
            } catch {
                node.textContent = source;
                node.classList.add("math-error");
                node.title = "This formula could not be read, so its source is shown.";
            }
        }
    };

    if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", () => draw(document));
    } else {
        draw(document);
    }
    document.addEventListener("htmx:afterSettle", (event) => draw(event.target.parentNode ?? document));
}
