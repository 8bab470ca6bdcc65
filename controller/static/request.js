/** Starts the page of one request. */

import { moveTo } from "./address.js";
import { followRequest } from "./results.js";

document.documentElement.dataset.js = "";
const results = document.querySelector("#results");

// The answer to a plain form's POST is shown at `/`: a reload there would send the pictures once more.
if (location.pathname !== results.dataset.url) moveTo(results.dataset.url, "replaceState");

for (const img of results.querySelectorAll("img[data-fallback]")) {
  const giveUp = () => { img.src = img.dataset.fallback; };
  if (img.complete && img.currentSrc && img.naturalWidth === 0) giveUp();
  else img.addEventListener("error", giveUp, { once: true });
}

followRequest(results);
