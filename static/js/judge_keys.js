// One key, one answer. A key clicks the control of the page that names it in data-key,
// so that a form may add keys without a word here.

import { item, preference, state } from "./judge_page.js";

const TYPING = "textarea, select, [contenteditable], input:not([type=checkbox], [type=radio])";
/** Where the arrow keys have a meaning of their own. */
const WALKED = "pre, .math.block, [type=radio]";

const keyOf = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") return "u";
    if (event.ctrlKey || event.metaKey || event.altKey) return "";
    // AltGr writes a character of some languages, and is not always told as Alt.
    if (event.getModifierState("AltGraph")) return "";
    if (event.key === "?") return "?";
    // By its place: on some keyboards a digit needs Shift, on others there is no A or [.
    const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
    if (digit) return digit[1];
    if (event.code === "BracketLeft") return "[";
    if (event.code === "BracketRight") return "]";
    const letter = /^Key([A-Z])$/.exec(event.code);
    if (letter && /^[^\x00-\x7f]$/.test(event.key)) return letter[1].toLowerCase();
    return event.key.toLowerCase();
};

const isLeftAlone = (event, key) => {
    if (!key) return true;
    const isOneCharacter = key.length === 1 && !event.ctrlKey && !event.metaKey;
    if (isOneCharacter && preference("keys") === "off") return true;
    if (key.startsWith("arrow") && event.target.closest(WALKED)) return true;
    const floating = document.querySelector("dialog[open], [popover]:not(.drawer):popover-open");
    // What is open may be closed by its own key, and has keys of its own within.
    return floating && !floating.querySelector(named(key)) && !opener(floating, key);
};

const named = (key) => `[data-key~="${CSS.escape(key)}"]`;
const opener = (floating, key) => document.querySelector(`[popovertarget="${floating.id}"]${named(key)}`);

document.addEventListener("keydown", (event) => {
    // 229: a browser that tells of an input method only so.
    if (event.defaultPrevented || event.isComposing || event.keyCode === 229 || event.repeat) return;
    if (event.target.closest(TYPING)) {
        if (event.key === "Escape") document.getElementById("item-title").focus();
        return;
    }
    const key = keyOf(event);
    if (isLeftAlone(event, key)) return;
    const target = document.querySelector(named(key));
    if (!target || (state.isBusy && item().contains(target))) return;
    event.preventDefault();
    target.click();
});

// A note that is opened is typed into: at once, or the next keys would vote.
document.addEventListener("click", (event) => {
    const box = event.target.closest(".note-box > summary")?.parentElement;
    if (!box) return;
    event.preventDefault();
    box.open = !box.open;
    if (box.open) box.querySelector("textarea, input")?.focus();
});
