// Light or dark: the system's choice unless this browser has its own.
// Loaded in the head without defer, so that the first paint already has the right ground.
"use strict";
{
    const root = document.documentElement;
    const order = ["auto", "light", "dark"];
    const words = { auto: "as the system", light: "light", dark: "dark" };

    const stored = () => {
        try {
            const value = localStorage.getItem("theme");
            return order.includes(value) ? value : "auto";
        } catch {
            return "auto"; // Storage can be forbidden; the page must still load.
        }
    };

    const apply = (theme) => {
        if (theme === "auto") delete root.dataset.theme;
        else root.dataset.theme = theme;
        for (const button of document.querySelectorAll(".theme-button")) {
            button.dataset.now = theme;
            button.title = `Theme: ${words[theme]}`;
            button.setAttribute("aria-label", `Theme: ${words[theme]}. Change`);
        }
        document.dispatchEvent(new Event("themechange"));
    };

    root.classList.add("has-script");
    apply(stored());
    document.addEventListener("DOMContentLoaded", () => apply(stored()));
    window.addEventListener("storage", (event) => {
        if (event.key === "theme") apply(stored());
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
        document.dispatchEvent(new Event("themechange"));
    });
    document.addEventListener("click", (event) => {
        if (!event.target.closest(".theme-button")) return;
        const next = order[(order.indexOf(stored()) + 1) % order.length];
        try {
            localStorage.setItem("theme", next);
        } catch {
            // Not kept, but still shown until the page is left.
        }
        apply(next);
    });
}
