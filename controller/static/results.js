
import { offerExports } from "./exports.js";
import { ask, follow, Gone, remove, tell } from "./follow.js";
import { forget } from "./latest.js";
import { requestView } from "./view.js";

const UNREACHABLE = "The server cannot be reached. Try again.";
const SURE = "Cancel this request? The pictures that are not classified yet are deleted.";
const SURE_TO_DELETE = "Delete this request? Its pictures and labels are deleted for everybody who has its address.";
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
        complain(error instanceof TypeError ? UNREACHABLE : error.message);
      }
      button.disabled = false;
    });
  }

  async function deleteRequest({ target: button }) {
    if (!confirm(SURE_TO_DELETE)) return;
    button.disabled = true;
    try {
      await remove(url);
      forget(url);
      location.assign("/");
    } catch (error) {
      complain(error instanceof TypeError ? UNREACHABLE : error.message);
      button.disabled = false;
    }
  }

  again.addEventListener("click", () => sendAgain());
  results.querySelector("#delete").addEventListener("click", deleteRequest);
  offerExports(results);
  change(results.querySelector("#cancel-request"), () => {}, SURE); // the page is still being followed
  change(results.querySelector("#retry"), keepUp);
  if (results.dataset.complete === "false") keepUp();
  else results.querySelector("#delete").hidden = false;
}
