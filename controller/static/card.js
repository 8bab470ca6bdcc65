/** Updates the card of a picture when its answer arrives. */

import { showPreview } from "./no-preview.js";
import { percent } from "./words.js";

/** Shows the state of an image in its card. Returns whether the card has changed. */
export function showImage(card, image) {
  if (card.dataset.status === image.status) return false;
  const content = document.getElementById(`card-${image.status}`).content.cloneNode(true);
  if (image.status === "classified") fillAnswer(content, image);
  if (image.status === "failed") fillFailure(content, image.error);
  card.querySelector(".answer").replaceChildren(content);
  card.dataset.status = image.status;
  if (image.status !== "waiting") showPreview(card.querySelector(".picture img"), image.preview);
  return true;
}

function fillAnswer(content, { label, confidence, predictions, cached }) {
  fillGuess(content.querySelector(".guess"), { label, confidence });
  content.querySelector(".cached").hidden = !cached;
  const details = content.querySelector("details");
  const blank = details.querySelector(".guess");
  const others = predictions.slice(1).map((other) => fillGuess(blank.cloneNode(true), other));
  details.querySelector("ol").replaceChildren(...others);
  details.hidden = others.length === 0;
}

function fillFailure(content, { code, message }) {
  content.querySelector(".no-label").hidden = code === "cancelled";
  content.querySelector(".was-cancelled").hidden = code !== "cancelled";
  content.querySelector(".reason").textContent = message;
}

function fillGuess(guess, { label, confidence }) {
  guess.querySelector(".label").textContent = label;
  guess.querySelector(".confidence").textContent = percent(confidence);
  guess.querySelector("rect").setAttribute("width", `${(confidence * 100).toFixed(1)}%`);
  return guess;
}
