// Whoever signs out leaves no drafts in this browser. Answers that the server has not
// acknowledged stay: they are sent when the same person judges again.
"use strict";
{
    const forget = () => {
        for (const kept of [localStorage, sessionStorage]) {
            for (const name of Object.keys(kept)) {
                if (name.startsWith("draft:")) kept.removeItem(name);
            }
        }
    };

    document.addEventListener("submit", (event) => {
        if (event.target.dataset.leaves !== "") return;
        // Not yet: the page may ask whether to leave, and the person may stay.
        addEventListener("pagehide", () => {
            try {
                forget();
            } catch {
                // Storage is forbidden, so nothing was kept.
            }
        }, { once: true });
    });
}
