// The judging page beyond its forms and links: one key an item, a note that is not
// lost, an answer that is sent until it is saved. Everything here is bound to the
// document once, because the item is swapped.
"use strict";
{
    const HEARTBEAT_MS = 60_000;
    const RETRY_MS = [1000, 2000, 4000, 8000];
    let isBusy = false;
    let pressed = null;
    let failures = 0;

    const item = () => document.getElementById("item");
    const form = () => item().querySelector("form");
    const remember = (name, value) => {
        try {
            if (value === null) localStorage.removeItem(name);
            else localStorage.setItem(name, value);
        } catch {
            // Storage can be forbidden; the page works without.
        }
    };
    const recall = (name) => {
        try {
            return localStorage.getItem(name);
        } catch {
            return null;
        }
    };

    const areKeysOff = () => recall("judge.keys") === "off";

    // --- What is said beside the verdicts ---

    const say = (words, { failed = false, link = "" } = {}) => {
        const saved = document.getElementById("saved");
        if (saved) {
            saved.textContent = words;
            saved.parentElement.classList.toggle("is-failed", failed);
            saved.parentElement.classList.remove("is-saved");
            saved.parentElement.querySelector("svg")?.remove();
            if (link) {
                const anchor = document.createElement("a");
                anchor.href = link;
                anchor.textContent = "Sign in";
                saved.append(" ", anchor);
            }
        }
        document.getElementById("announcer").textContent = words;
    };

    // --- A new item ---

    const noteName = () => `note:${item().dataset.item}`;

    const arrive = () => {
        document.getElementById("keys-off").checked = areKeysOff();
        const responses = document.querySelector(".response-left")?.parentElement;
        if (responses) responses.dataset.layout = recall("judge.layout") ?? "side";
        const note = document.getElementById("note");
        const draft = note && recall(noteName());
        if (draft) {
            note.value = draft;
            note.closest("details").open = true;
        }
    };

    const isItem = (event) => event.detail.target?.id === "item";

    // Settled: only now are the new form and links htmx's.
    document.addEventListener("htmx:afterSettle", (event) => {
        if (event.target.id !== "item") return;
        isBusy = false;
        arrive();
        window.scrollTo(0, 0);
        document.getElementById("item-title").focus({ preventScroll: true });
        document.getElementById("announcer").textContent =
            document.getElementById("saved")?.textContent.trim() ?? "";
    });
    document.addEventListener("DOMContentLoaded", arrive);
    document.addEventListener("htmx:historyRestore", () => {
        isBusy = false;
        arrive();
    });
    document.addEventListener("input", (event) => {
        if (event.target.id === "note") remember(noteName(), event.target.value || null);
    });

    // --- Sending an answer, until it is saved ---

    const choose = (button) => {
        button.classList.add("is-chosen");
        item().querySelector(`.response-${button.value}`)?.classList.add("is-chosen");
    };
    const unchoose = () => {
        for (const node of item().querySelectorAll(".is-chosen")) node.classList.remove("is-chosen");
    };

    document.addEventListener("submit", (event) => {
        if (event.target === form()) pressed = event.submitter;
    }, true);

    document.addEventListener("htmx:beforeRequest", (event) => {
        if (!isItem(event)) return;
        if (isBusy) {
            event.preventDefault();
            return;
        }
        isBusy = true;
        if (event.detail.elt === form() && pressed) choose(pressed);
    });

    // Somebody who was signed out gets the login page, which is no item.
    document.addEventListener("htmx:beforeSwap", (event) => {
        if (!isItem(event)) return;
        const address = new URL(event.detail.xhr.responseURL || location.href);
        if (address.pathname.includes("/judge/")) {
            if (event.detail.xhr.status === 200 && event.detail.requestConfig.verb === "post") {
                failures = 0;
                remember(noteName(), null);
            }
            return;
        }
        event.detail.shouldSwap = false;
        isBusy = false;
        unchoose();
        const next = encodeURIComponent(location.pathname);
        say("Not saved: you are signed out. Your note is kept.", {
            failed: true,
            link: `${address.pathname}?next=${next}`,
        });
    });

    const retry = (sender) => {
        if (sender !== form()) {
            isBusy = false;
            say("The page could not be fetched. Try again.", { failed: true });
            return;
        }
        const button = pressed;
        const wait = RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)];
        say("Not saved — retrying", { failed: true });
        // The same address and revision each time, so it is one answer however often.
        setTimeout(() => {
            isBusy = false;
            if (sender.isConnected) sender.requestSubmit(button);
        }, wait);
    };

    for (const name of ["htmx:sendError", "htmx:timeout"]) {
        document.addEventListener(name, (event) => {
            if (isItem(event)) retry(event.detail.elt);
        });
    }
    document.addEventListener("htmx:responseError", (event) => {
        if (!isItem(event)) return;
        const { status } = event.detail.xhr;
        if (status >= 500 || status === 429) {
            retry(event.detail.elt);
            return;
        }
        isBusy = false;
        unchoose();
        say(`Not saved (${status}). Reload the page and answer again; your note is kept.`, { failed: true });
    });

    // --- Keys ---

    const keyOf = (event) => {
        if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") return "u";
        if (event.ctrlKey || event.metaKey || event.altKey) return "";
        // By its place: on some keyboards a digit needs Shift.
        const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
        if (digit && !(event.shiftKey && event.key === "?")) return digit[1];
        return event.key.toLowerCase();
    };

    document.addEventListener("keydown", (event) => {
        if (event.defaultPrevented || event.isComposing || event.repeat) return;
        const typing = event.target.closest("input, textarea, select, [contenteditable]");
        if (typing) {
            if (event.key === "Escape") document.getElementById("item-title").focus();
            if (typing.type !== "checkbox") return;
        }
        const key = keyOf(event);
        if (!key || (areKeysOff() && key.length === 1 && !event.ctrlKey && !event.metaKey)) return;
        const isHelpOpen = document.querySelector("dialog[open], #keys:popover-open");
        if (isHelpOpen && key !== "?") return;
        const side = { "[": ".response-left", "]": ".response-right" }[key];
        const target = side
            ? document.querySelector(side)
            : document.querySelector(`[data-key~="${CSS.escape(key)}"]`);
        if (!target || (isBusy && target.closest("#item"))) return;
        event.preventDefault();
        if (side) target.scrollIntoView({ block: "center" });
        else target.click();
    });

    document.addEventListener("click", (event) => {
        if (event.target.closest(".layout-button")) {
            const { dataset } = document.querySelector(".responses");
            dataset.layout = dataset.layout === "side" ? "stacked" : "side";
            remember("judge.layout", dataset.layout);
        }
    });

    // A note that is opened is typed into: at once, or the next keys would vote.
    document.addEventListener("click", (event) => {
        const box = event.target.closest(".note-box > summary")?.parentElement;
        if (!box) return;
        event.preventDefault();
        box.open = !box.open;
        if (box.open) document.getElementById("note").focus();
    });

    document.addEventListener("change", (event) => {
        if (event.target.id === "keys-off") remember("judge.keys", event.target.checked ? "off" : null);
    });

    // --- Still reading ---

    setInterval(async () => {
        const address = item().dataset.extend;
        if (!address || document.visibilityState !== "visible") return;
        const token = form().elements.csrfmiddlewaretoken.value;
        const answer = await fetch(address, {
            method: "POST",
            headers: { "X-CSRFToken": token },
        }).catch(() => null);
        if (answer?.status === 409) {
            delete item().dataset.extend;
            say("The item has gone back to the queue. Your answer will still be kept.");
        }
    }, HEARTBEAT_MS);
}
