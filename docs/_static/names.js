"use strict";
// Names for what the theme draws as icons alone, for those who hear the page.
addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll("button, summary")) {
    if (part.textContent.trim() || part.getAttribute("aria-label")) continue;
    const beside = part.closest("li")?.querySelector("a")?.textContent.trim();
    const about = part.localName === "summary" && beside ? `Pages below ${beside}` : "Menu";
    part.setAttribute("aria-label", part.title || (part.className.includes("search") ? "Search" : about));
  }
});
