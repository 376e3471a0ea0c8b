// What the modules of the judging page share: the item that is there now, what this
// browser keeps, and the words beside the verdicts.

export const item = () => document.getElementById("item");
/** The verdicts and what is asked beside them; null where there is nothing to judge. */
export const form = () => item().querySelector("form.verdict-bar");
export const person = () => document.getElementById("announcer").dataset.person;

/** What this person has chosen under Reading. */
export const preference = (name) =>
    document.querySelector(`#reading-form [name="${name}"][aria-pressed="true"]`)?.value;

/** Whether an answer or an item is on its way, and whether it is the same item, redrawn. */
export const state = { isBusy: false, isRedrawing: false };

// Storage can be forbidden, or full; the page works without.
const attempt = (action) => {
    try {
        return action();
    } catch {
        return null;
    }
};

const keptIn = (place) => ({
    read: (name) => attempt(() => JSON.parse(place().getItem(name))),
    write: (name, value) => attempt(() => place().setItem(name, JSON.stringify(value))),
    remove: (name) => attempt(() => place().removeItem(name)),
    names: (beginning) =>
        attempt(() => Object.keys(place()).filter((name) => name.startsWith(beginning))) ?? [],
});

export const storage = keptIn(() => localStorage);
/** The same for this tab alone; it outlives a reload. */
export const ofThisTab = keptIn(() => sessionStorage);

export const say = (words, { failed = false, link = "", linkWords = "" } = {}) => {
    const saved = document.getElementById("saved");
    if (saved) {
        saved.textContent = words;
        saved.parentElement.classList.toggle("is-failed", failed);
        saved.parentElement.classList.remove("is-saved");
        saved.parentElement.querySelector("svg")?.remove();
        if (link) {
            const anchor = document.createElement("a");
            anchor.href = link;
            anchor.textContent = linkWords;
            saved.append(" ", anchor);
        }
    }
    document.getElementById("announcer").textContent = words;
};

// Signing in gives a new token, perhaps in another tab: the cookie has the one in force.
export const csrfToken = () =>
    /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1] ??
    document.querySelector("[name=csrfmiddlewaretoken]").value;
