/** Shows the state of a request on its page. */

import { showImage } from "./card.js";
import { waitingWords } from "./wait.js";

const SPEAK_EVERY = 10_000; // milliseconds; a screen reader need not read every change

export function requestView(results) {
  const find = (selector) => results.querySelector(selector);
  const cards = new Map([...results.querySelectorAll(".card")].map((card) => [card.dataset.imageId, card]));
  const wait = waitingWords(find("#wait"));
  const speak = speaker(find("#spoken"));
  const models = new Set(find("#models").textContent.split(", ").filter(Boolean));

  function onImage(image) {
    const card = cards.get(image.image_id);
    if (!showImage(card, image)) return;
    card.toggleAttribute("data-again", image.status === "failed" && image.error.retryable);
    if (image.status === "waiting") showPending(card);
    if (image.model) showModel(modelInWords(image));
  }

  function onState({ state, message, estimate_seconds, counts, complete }) {
    const news = state !== results.dataset.state;
    results.dataset.state = state;
    results.dataset.complete = complete;
    showCounts(counts);
    if (!complete) wait.show({ message, estimate_seconds });
    if (news) results.querySelectorAll('.card[data-status="waiting"]').forEach(showPending);
    showStep(state === "stalled" ? "launching" : state);
    find("#waiting").hidden = find("#cancel-request").hidden = complete;
    find("#delete").hidden = !complete;
    find("#retry").hidden = !complete || !find(".card[data-again]");
    speak(complete || !news ? find("#headline").textContent : find("#wait").textContent, news);
  }

  function showStep(current) {
    for (const step of results.querySelectorAll(".stages li")) {
      if (step.dataset.step === current) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    }
  }

  function showPending(card) {
    card.querySelector(".pending").textContent = results.dataset[results.dataset.state] ?? results.dataset.queued;
  }

  function showCounts(counts) {
    for (const [status, count] of Object.entries(counts)) {
      const place = find(`[data-count="${status}"]`);
      place.textContent = count;
      if (status !== "classified") place.parentElement.hidden = count === 0;
    }
    const bar = find("#answered");
    bar.value = counts.classified + counts.failed - Number(bar.dataset.refused);
    document.title = document.title.replace(/^.*?(?= · )/, find("#headline").textContent);
  }

  function showModel(model) {
    if (models.has(model)) return;
    const place = find("#models");
    place.textContent = [...models.add(model)].join(", ");
    place.parentElement.hidden = false;
  }

  /** Shows a problem, or with "" that it is over. The estimate is not counted down meanwhile. */
  function onTrouble(sentence) {
    if (sentence) wait.stop();
    const place = find("#problem");
    if (place.textContent !== sentence) place.textContent = sentence;
  }

  /** Shows that no more answers come. */
  function onGone() {
    wait.stop();
    results.dataset.state = "gone";
    for (const part of ["#waiting", "#cancel-request", ".address", ".lead"]) find(part).hidden = true;
    results.querySelectorAll('.card[data-status="waiting"] .pending').forEach((words) => {
      words.textContent = "Not answered";
    });
  }

  return { onImage, onState, onTrouble, onGone };
}

/** The same words as those of the server. */
function modelInWords({ model, engine, precision }) {
  return [model, precision && `in ${precision}`, engine && `with ${engine}`].filter(Boolean).join(" ");
}

function speaker(place) {
  let last = -Infinity;
  return (text, now) => {
    if (!now && performance.now() - last < SPEAK_EVERY) return;
    last = performance.now();
    place.textContent = text;
  };
}
