/** Keeps the page of one request up to date until all of its pictures are answered. */

import { offerExports } from "./exports.js";
import { ask, follow, tell } from "./follow.js";
import { requestView } from "./view.js";

export function followRequest(results) {
  const { url } = results.dataset;
  const problem = results.querySelector("#problem");
  const complain = (sentence) => {
    if (problem.textContent !== sentence) problem.textContent = sentence;
  };
  const listener = { ...requestView(results), onTrouble: complain };
  const keepUp = () => follow(url, listener).catch((error) => complain(error.message));

  function change(form, then) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      button.disabled = true;
      try {
        complain("");
        tell(await ask(form.action, "POST"), listener);
        results.querySelector("#headline").focus();
        then();
      } catch (error) {
        complain(error instanceof TypeError ? "The server cannot be reached. Try again." : error.message);
      }
      button.disabled = false;
    });
  }

  offerExports(results);
  change(results.querySelector("#cancel-request"), () => {}); // the page is still being followed
  change(results.querySelector("#retry"), keepUp);
  if (results.dataset.complete === "false") keepUp();
}
