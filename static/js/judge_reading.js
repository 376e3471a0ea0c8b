// How the responses are laid out, and the ways to go to one of them.

import { storage } from "./judge_page.js";

const layOut = () => {
    const responses = document.querySelector(".response-left")?.parentElement;
    if (responses) responses.dataset.layout = storage.read("judge.layout") ?? "side";
};

document.addEventListener("htmx:afterSettle", layOut);
document.addEventListener("htmx:historyRestore", layOut);
document.addEventListener("DOMContentLoaded", layOut);

document.addEventListener("click", (event) => {
    if (!event.target.closest(".layout-button")) return;
    const { dataset } = document.querySelector(".responses");
    dataset.layout = dataset.layout === "side" ? "stacked" : "side";
    storage.write("judge.layout", dataset.layout);
});

document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const side = { BracketLeft: ".response-left", BracketRight: ".response-right" }[event.code];
    document.querySelector(side ?? "none")?.scrollIntoView({ block: "center" });
});
