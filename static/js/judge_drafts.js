// What was typed and ticked beside a verdict, kept until the answer is saved: for the
// person and the item, in this browser. Each tab reads its own first, so that two tabs
// on one item do not take each other's words.

import { form, item, ofThisTab, person, storage } from "./judge_page.js";

const KEPT_MS = 14 * 24 * 3600 * 1000;

const draftName = () => `draft:${person()}:${item().dataset.item}`;

// Whatever the form asks for, so that it may ask for more.
const controls = () =>
    [...form().elements].filter((node) => node.name && node.matches("textarea, select, input:not([type=hidden])"));
const isTicked = (node) => node.matches("[type=checkbox], [type=radio]");

const filledIn = () => {
    const values = {};
    for (const node of controls()) {
        values[node.name] ??= [];
        if (!isTicked(node) || node.checked) values[node.name].push(node.value);
    }
    return values;
};

export const keepDraft = () => {
    if (!form()) return;
    const draft = { at: Date.now(), values: filledIn() };
    storage.write(draftName(), draft);
    ofThisTab.write(draftName(), draft);
};

export const dropDraft = () => {
    storage.remove(draftName());
    ofThisTab.remove(draftName());
};

/** Fill the form in again; whether that changed anything. */
export const restoreDraft = () => {
    const draft = form() && (ofThisTab.read(draftName()) ?? storage.read(draftName()));
    if (!draft) return false;
    const changed = controls().filter((node) => put(node, draft.values[node.name]));
    for (const node of changed) {
        const box = node.closest("details");
        if (box) box.open = true;
        // The form's own script follows what is ticked.
        node.dispatchEvent(new Event("change", { bubbles: true }));
    }
    return changed.length > 0;
};

const put = (node, values) => {
    if (!values) return false;
    if (isTicked(node)) {
        const was = node.checked;
        node.checked = values.includes(node.value);
        return node.checked !== was;
    }
    // Of several with one name, each takes its own.
    const value = values.shift() ?? "";
    if (node.value === value) return false;
    node.value = value;
    return true;
};

for (const name of ["input", "change"]) {
    document.addEventListener(name, (event) => {
        if (event.isTrusted && form()?.contains(event.target)) keepDraft();
    });
}

// An item may never come back to this browser.
for (const name of storage.names("draft:")) {
    if (!(storage.read(name)?.at > Date.now() - KEPT_MS)) storage.remove(name);
}
