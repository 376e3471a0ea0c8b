// The judging page beyond its forms and links: what happens when an item arrives. Each
// module binds to the document once, because the item is swapped.

import { restoreDraft } from "./judge_drafts.js";
import { areKeysOff } from "./judge_keys.js";
import { item, say, state } from "./judge_page.js";
import "./judge_reading.js";
import { sendWhatIsLeft } from "./judge_sending.js";

const arrive = () => {
    state.isBusy = false;
    document.getElementById("keys-off").checked = areKeysOff();
    if (restoreDraft()) say("What you had typed is here again.");
};

// Settled: only now are the new form and links htmx's.
document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id !== "item") return;
    document.getElementById("announcer").textContent =
        document.getElementById("saved")?.textContent.trim() ?? "";
    arrive();
    window.scrollTo(0, 0);
    document.getElementById("item-title").focus({ preventScroll: true });
});
document.addEventListener("htmx:historyRestore", arrive);
document.addEventListener("DOMContentLoaded", () => {
    arrive();
    if (item()) sendWhatIsLeft();
});
