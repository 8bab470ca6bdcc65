/** Starts the page of one request. */

import { moveTo } from "./address.js";
import { followRequest } from "./results.js";

document.documentElement.dataset.js = "";
const results = document.querySelector("#results");

// If the form was sent without scripts, the address is `/`. A reload would then send the pictures again.
if (location.pathname !== results.dataset.url) moveTo(results.dataset.url, "replaceState");

for (const img of results.querySelectorAll("img[data-fallback]")) {
  const giveUp = () => { img.src = img.dataset.fallback; };
  if (img.complete && img.currentSrc && img.naturalWidth === 0) giveUp();
  else img.addEventListener("error", giveUp, { once: true });
}

followRequest(results);
