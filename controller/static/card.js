/** One picture's card: what it says once its answer is there. */

import { percent } from "./words.js";

/** Fills in a waiting card; leaves an answered one alone. Returns whether it changed. */
export function answerCard(card, image) {
  if (card.dataset.status !== "waiting" || image.status === "waiting") return false;
  const content = document.getElementById(image.status).content.cloneNode(true);
  if (image.status === "classified") fillGuesses(content, image);
  else content.querySelector(".reason").textContent = image.error.message;
  card.querySelector(".answer").replaceChildren(content);
  card.dataset.status = image.status;
  return true;
}

function fillGuesses(content, { label, confidence, predictions }) {
  fillGuess(content.querySelector(".guess"), { label, confidence });
  const details = content.querySelector("details");
  const blank = details.querySelector(".guess");
  const others = predictions.slice(1).map((other) => fillGuess(blank.cloneNode(true), other));
  details.querySelector("ol").replaceChildren(...others);
  details.hidden = others.length === 0;
}

function fillGuess(guess, { label, confidence }) {
  guess.querySelector(".label").textContent = label;
  guess.querySelector(".confidence").textContent = percent(confidence);
  guess.querySelector("rect").setAttribute("width", `${(confidence * 100).toFixed(1)}%`);
  return guess;
}
