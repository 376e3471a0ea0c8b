// How the person likes to read: a choice is drawn at once and remembered by the server.
// And the ways through a long conversation.

import { csrfToken, form, item, preference, say, state } from "./judge_page.js";

/** What the server must draw anew. */
const DRAWN_BY_SERVER = ["text", "differences"];

const remember = (name, value) =>
    fetch(document.getElementById("reading-form").getAttribute("action"), {
        method: "POST",
        headers: { "HX-Request": "true", "X-CSRFToken": csrfToken() },
        body: new URLSearchParams({ [name]: value }),
    }).then((response) => response.status === 204, () => false);

const press = (button) => {
    const buttons = [...button.parentElement.children];
    const { cycle } = button.parentElement.dataset;
    for (const other of buttons) {
        other.setAttribute("aria-pressed", String(other === button));
        delete other.dataset.key;
    }
    if (cycle) buttons[(buttons.indexOf(button) + 1) % buttons.length].dataset.key = cycle;
};

/** The item that is there, and one that was fetched before the choice. */
const draw = () => {
    const body = item().querySelector(".item-body");
    if (!body) return;
    body.dataset.size = preference("size");
    const pair = body.querySelector(".response-left")?.parentElement;
    if (pair) pair.dataset.layout = preference("layout");
};
document.addEventListener("htmx:afterSettle", draw);
document.addEventListener("htmx:historyRestore", draw);

document.addEventListener("submit", async (event) => {
    if (event.target.id !== "reading-form") return;
    event.preventDefault();
    const { name, value } = event.submitter;
    press(event.submitter);
    draw();
    if (!(await remember(name, value))) say("This choice could not be remembered.", { failed: true });
    else if (DRAWN_BY_SERVER.includes(name) && form() && !state.isBusy) {
        state.isRedrawing = true;
        htmx.ajax("GET", form().getAttribute("action"), { target: "#item", swap: "outerHTML settle:0ms" });
    }
});

// --- Ways through ---

// In tabs the radio alone shows the response; else the page goes there.
document.addEventListener("click", (event) => {
    if (!event.target.matches(".response-tabs input") || preference("layout") === "tabs") return;
    document.querySelector(`.response-${event.target.value}`).scrollIntoView({ block: "start" });
});

let walkedTo = null;
document.addEventListener("click", (event) => {
    const step = Number(event.target.closest("[data-walk]")?.dataset.walk);
    if (!step) return;
    const earlier = item().querySelector(".conversation-earlier");
    if (earlier) earlier.open = true;
    const stops = [...item().querySelectorAll(".conversation > .turn, .conversation-earlier > .turn, .response")]
        .filter((stop) => stop.checkVisibility());
    const at = stops.indexOf(walkedTo);
    // From elsewhere: backwards begins at the last turn, forwards at the first.
    const from = at >= 0 ? at + step : step > 0 ? 0 : stops.findLastIndex((stop) => stop.matches(".turn"));
    walkedTo = stops[Math.max(0, Math.min(from, stops.length - 1))];
    walkedTo.tabIndex = -1;
    walkedTo.focus({ preventScroll: true });
    walkedTo.scrollIntoView({ block: "start" });
});
