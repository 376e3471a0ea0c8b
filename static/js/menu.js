// A menu is a <details class="menu">, which opens without script. This closes it again:
// on a click elsewhere, on Escape, when the focus leaves it.
"use strict";
{
    const openMenus = () => document.querySelectorAll("details.menu[open]");

    document.addEventListener("click", (event) => {
        for (const menu of openMenus()) {
            if (!menu.contains(event.target)) menu.open = false;
        }
    });

    document.addEventListener("keydown", (event) => {
        if (event.key !== "Escape") return;
        for (const menu of openMenus()) {
            menu.open = false;
            menu.querySelector("summary").focus();
        }
    });

    document.addEventListener("focusout", (event) => {
        const menu = event.target.closest("details.menu[open]");
        if (menu && event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
    });
}
