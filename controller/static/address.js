/** The address that the page is shown under, where scripts change it. */

let shown = location.pathname;

/** `how` is "pushState", for a step that Back can undo, or "replaceState". */
export function moveTo(address, how) {
  history[how](null, "", address);
  shown = address;
}

// Back and Forward between pages that took over from each other load nothing by themselves.
addEventListener("popstate", () => {
  if (location.pathname !== shown) location.reload();
});
