// The judging page beyond its forms and links: what happens when an item arrives. Each
// module binds to the document once, because the item is swapped.

import { restoreDraft } from "./judge_drafts.js";
import "./judge_keys.js";
import { item, say, state } from "./judge_page.js";
import "./judge_reading.js";
import { sendWhatIsLeft } from "./judge_sending.js";

const arrive = () => {
    state.isBusy = false;
    const isRestored = restoreDraft();
    if (isRestored && !state.isRedrawing) say("What you had typed is here again.");
};

const focusTitle = () => document.getElementById("item-title").focus({ preventScroll: true });

// Settled: only now are the new form and links htmx's.
document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id !== "item") return;
    document.getElementById("announcer").textContent =
        document.getElementById("saved")?.textContent.trim() ?? "";
    arrive();
    // The same item, read otherwise: the reader stays where they are.
    if (state.isRedrawing) {
        state.isRedrawing = false;
        if (document.activeElement === document.body) focusTitle();
        return;
    }
    window.scrollTo(0, 0);
    focusTitle();
});
document.addEventListener("htmx:historyRestore", arrive);
document.addEventListener("DOMContentLoaded", () => {
    arrive();
    if (item()) sendWhatIsLeft();
});
