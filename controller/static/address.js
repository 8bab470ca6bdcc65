/** Changes the address that the browser shows for the page. */

let shown = location.pathname;

/** `how` is "pushState", after which the Back button returns to the old address, or "replaceState". */
export function moveTo(address, how) {
  history[how](null, "", address);
  shown = location.pathname;
}

// After moveTo, the browser does not load another page by itself when people go back or forward.
addEventListener("popstate", () => {
  if (location.pathname !== shown) location.reload();
});
