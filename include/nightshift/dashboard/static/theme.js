// Follows the theme that people chose in Airflow, which keeps it under "theme"; without one, that of the system.
"use strict";
function followTheme() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // a browser that keeps nothing for this page: the system's theme
  }
  if (chosen === "light" || chosen === "dark") {
    document.documentElement.dataset.theme = chosen;
  } else {
    delete document.documentElement.dataset.theme;
  }
}
followTheme();
window.addEventListener("storage", (event) => {
  if (event.key === "theme") {
    followTheme();
    document.dispatchEvent(new Event("themechange"));
  }
});
