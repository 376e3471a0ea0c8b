// A log that is read at its end stays there when lines are added.
"use strict";
{
    const isAtEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    let follows = true;

    const log = document.querySelector(".log-tail");
    if (log) {
        log.scrollTop = log.scrollHeight;
        log.addEventListener("htmx:beforeSwap", () => { follows = isAtEnd(log); });
        log.addEventListener("htmx:afterSwap", () => { if (follows) log.scrollTop = log.scrollHeight; });
    }
}
