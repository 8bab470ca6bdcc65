
import { offerExports } from "./exports.js";
import { ask, follow, Gone, tell } from "./follow.js";
import { requestView } from "./view.js";

const SURE = "Cancel this request? The pictures that are not classified yet are deleted.";
const LOST = "The server no longer has this request, so no more answers come.";

/**
 * Keeps the page of one request up to date until all of its pictures are answered. `sendAgain()` leads back to the
 * pictures, so that they can be sent again. It is missing if this browser does not have them.
 */
export function followRequest(results, sendAgain) {
  const { url } = results.dataset;
  const listener = requestView(results);
  const complain = listener.onTrouble;
  const again = results.querySelector("#send-again");
  const keepUp = () => follow(url, listener).catch(giveUp);

  function giveUp(error) {
    complain(error instanceof Gone ? LOST : error.message);
    if (!(error instanceof Gone)) return;
    listener.onGone();
    again.hidden = !sendAgain;
  }

  function change(form, then, question) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (question && !confirm(question)) return;
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

  again.addEventListener("click", () => sendAgain());
  offerExports(results);
  change(results.querySelector("#cancel-request"), () => {}, SURE); // the page is still being followed
  change(results.querySelector("#retry"), keepUp);
  if (results.dataset.complete === "false") keepUp();
}
