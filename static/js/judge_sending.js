// An answer is written down here before it is sent, and crossed out when the server has
// acknowledged it. Until then it is sent again: from the page, after a reload, after
// signing in. It names the revision it answers, so it is one answer however often sent.

import { dropDraft } from "./judge_drafts.js";
import { csrfToken, form, item, person, say, state, storage } from "./judge_page.js";

const RETRY_MS = [1000, 2000, 4000, 8000];
const TIMEOUT_MS = 20_000;
const HEARTBEAT_MS = 60_000;

let pressed = null;
let failures = 0;
let isUnsent = false;

const unsentName = (id) => `unsent:${person()}:${id}`;
const isOfTheItem = (event) => event.detail.target?.id === "item";
const isJudging = (address) => new URL(address, location.href).pathname.includes("/judge/");

/** Back-off, cut short when the connection comes back. */
const pause = () =>
    new Promise((resolve) => {
        setTimeout(resolve, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
        addEventListener("online", resolve, { once: true });
    });

const sayRetrying = () => {
    isUnsent = true;
    say(
        navigator.onLine
            ? "Not saved — retrying"
            : "Not saved — no connection. It will be sent when there is one.",
        { failed: true },
    );
};

const saySignedOut = (loginAddress) => {
    const login = new URL(loginAddress, location.href).pathname;
    const what = leftUnsent().length ? "Not saved: you are signed out. Your answer is kept." : "You are signed out.";
    say(what, {
        failed: true,
        link: `${login}?next=${encodeURIComponent(location.pathname)}`,
        linkWords: "Sign in",
    });
};

const writeDown = (id) => {
    const body = new URLSearchParams(new FormData(form(), pressed));
    body.delete("csrfmiddlewaretoken");
    // Not form.action, which is the button of that name.
    const answer = { at: Date.now(), id, address: form().getAttribute("action"), body: `${body}` };
    storage.write(unsentName(id), answer);
};

const crossOut = (id) => {
    failures = 0;
    isUnsent = false;
    storage.remove(unsentName(id));
};

// --- From the page ---

const choose = (button) => {
    button.classList.add("is-chosen");
    item().querySelector(`.response-${button.value.split("-")[0]}`)?.classList.add("is-chosen");
};
const unchoose = () => {
    for (const node of item().querySelectorAll(".is-chosen")) node.classList.remove("is-chosen");
};

// The answer stays as it was sent: were it changed while it is sent again, and the
// first one had arrived, the change would be lost.
const hold = (isHeld) => {
    if (form()) form().inert = isHeld;
};

document.addEventListener("submit", (event) => {
    if (event.target !== form()) return;
    pressed = event.submitter;
    form().elements.csrfmiddlewaretoken.value = csrfToken();
}, true);

document.addEventListener("htmx:beforeRequest", (event) => {
    if (!isOfTheItem(event)) return;
    if (state.isBusy) {
        event.preventDefault();
        return;
    }
    state.isBusy = true;
    if (event.detail.elt !== form()) return;
    writeDown(item().dataset.item);
    if (pressed) choose(pressed);
});

// Somebody who was signed out gets the login page, which is no item.
document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isOfTheItem(event)) return;
    const { requestConfig, xhr } = event.detail;
    const isAnswer = requestConfig.verb === "post";
    if (isJudging(xhr.responseURL || location.href)) {
        if (isAnswer && xhr.status === 200) dropDraft();
        if (isAnswer && (xhr.status === 200 || xhr.status === 422)) crossOut(item().dataset.item);
        return;
    }
    event.detail.shouldSwap = false;
    state.isBusy = state.isRedrawing = false;
    isUnsent = isAnswer;
    unchoose();
    saySignedOut(xhr.responseURL);
});

const retry = async (sender) => {
    if (sender !== form()) {
        state.isBusy = state.isRedrawing = false;
        say("The page could not be fetched. Try again.", { failed: true });
        return;
    }
    const button = pressed;
    sayRetrying();
    hold(true);
    await pause();
    state.isBusy = false;
    hold(false);
    if (sender.isConnected) sender.requestSubmit(button);
};

for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
        if (isOfTheItem(event)) retry(event.detail.elt);
    });
}
document.addEventListener("htmx:responseError", (event) => {
    if (!isOfTheItem(event)) return;
    const { status } = event.detail.xhr;
    if (status >= 500 || status === 429) {
        retry(event.detail.elt);
        return;
    }
    state.isBusy = false;
    unchoose();
    // A token that has gone (403) comes back with the page, and the answer is sent then.
    if (status === 403) {
        say("Not saved (403). Reload the page; your answer is kept.", { failed: true });
        return;
    }
    crossOut(item().dataset.item);
    say(`Not saved (${status}). Reload the page and answer again; what you typed is kept.`, { failed: true });
});

// --- What an earlier page left behind ---

const leftUnsent = () =>
    storage
        .names(unsentName(""))
        .map((name) => storage.read(name))
        .filter(Boolean)
        .sort((one, other) => one.at - other.at);

/** The server's response, however long that takes. */
const post = async ({ address, body }) => {
    for (;;) {
        const response = await fetch(address, {
            method: "POST",
            headers: { "HX-Request": "true", "X-CSRFToken": csrfToken() },
            body: new URLSearchParams(body),
            signal: AbortSignal.timeout(TIMEOUT_MS),
        }).catch(() => null);
        if (response && response.status < 500 && response.status !== 429) return response;
        sayRetrying();
        await pause();
    }
};

/** Send it all, the oldest first, before anything new can be answered. */
export const sendWhatIsLeft = async () => {
    const left = leftUnsent();
    if (!left.length) return;
    state.isBusy = true;
    hold(true);
    say("Sending what was not saved");
    const refused = [];
    for (const answer of left) {
        const response = await post(answer);
        if (!isJudging(response.url)) {
            state.isBusy = false;
            hold(false);
            saySignedOut(response.url);
            return;
        }
        crossOut(answer.id);
        if (!response.ok) refused.push({ ...answer, status: response.status });
        else if (answer.id === item().dataset.item) dropDraft();
        else storage.remove(`draft:${person()}:${answer.id}`);
    }
    state.isBusy = false;
    hold(false);
    await leaveAnswered(left.filter((answer) => !refused.includes(answer)));
    if (refused.length) {
        const [{ address, status }] = refused;
        say(`An earlier answer could not be saved (${status}).`, {
            failed: true,
            link: address,
            linkWords: "Open its item",
        });
    } else say("Saved: what had not been sent");
};

const leaveAnswered = async (answers) => {
    const here = answers.find((answer) => answer.id === item().dataset.item);
    if (!here) return;
    const queue = new URL("../", new URL(here.address, location.href)).pathname;
    await htmx.ajax("GET", queue, { target: "#item", swap: "outerHTML settle:0ms" });
};

addEventListener("beforeunload", (event) => {
    if (isUnsent) event.preventDefault();
});
// The way to sign in leads back here, to send it.
document.addEventListener("click", (event) => {
    if (event.target.closest("#saved a")) isUnsent = false;
});

// --- Still reading ---

setInterval(async () => {
    const address = item().dataset.extend;
    if (!address || document.visibilityState !== "visible") return;
    const response = await fetch(address, {
        method: "POST",
        headers: { "X-CSRFToken": csrfToken() },
    }).catch(() => null);
    if (response?.status === 409) {
        delete item().dataset.extend;
        say("The item has gone back to the queue. Your answer will still be kept.");
    }
}, HEARTBEAT_MS);
