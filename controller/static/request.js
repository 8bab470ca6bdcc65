/** Starts the page of one request. */

import "./no-preview.js";
import { moveTo } from "./address.js";
import { followRequest } from "./results.js";

document.documentElement.dataset.js = "";
const results = document.querySelector("#results");

// If the form was sent without scripts, the address is `/`. A reload would then send the pictures again.
if (location.pathname !== results.dataset.url) moveTo(results.dataset.url, "replaceState");

followRequest(results);
