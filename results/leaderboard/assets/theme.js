"use strict";
// Runs before the first paint, so that a chosen theme never flashes in the other one's colours.
(() => {
  const KEY = "promptrec-bench-theme";
  const root = document.documentElement;

  function read() {
    try {
      return localStorage.getItem(KEY) || "auto";
    } catch {
      return "auto"; // Storage is refused to pages opened from disk by some browsers.
    }
  }

  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  apply(read());
  addEventListener("DOMContentLoaded", () => {
    const chosen = document.querySelector(`#theme input[value="${CSS.escape(read())}"]`);
    if (chosen) chosen.checked = true;
    document.getElementById("theme").addEventListener("change", (event) => {
      apply(event.target.value);
      try {
        localStorage.setItem(KEY, event.target.value);
      } catch {
        // The choice then lasts as long as the page is open.
      }
    });
  });
})();
