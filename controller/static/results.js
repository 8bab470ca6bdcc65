/** The page of one request, kept up to date until its last picture is answered. */

import { answerCard } from "./card.js";
import { offerExports } from "./exports.js";
import { follow, read } from "./follow.js";

const SPEAK_EVERY = 5000; // milliseconds: a screen reader need not say every single number

export async function followRequest(results) {
  const { url, complete } = results.dataset;
  let latest = null;
  offerExports(results, async () => (latest?.complete ? latest : read(url)));
  if (complete === "true") return;
  const show = shower(results);
  const problem = results.querySelector("#problem");
  try {
    for await (latest of follow(url, (message) => { problem.textContent = message; })) show(latest);
  } catch (error) {
    problem.textContent = error.message;
  }
}

function shower(results) {
  const cards = new Map([...results.querySelectorAll(".card")].map((card) => [card.dataset.imageId, card]));
  const progress = results.querySelector("#answered");
  const speak = speaker(results.querySelector("#spoken"));
  return ({ images, counts, complete }) => {
    for (const image of images) answerCard(cards.get(image.image_id), image);
    showCounts(results, counts);
    showModels(results.querySelector("#models"), images);
    progress.value = images.length - counts.waiting;
    document.title = document.title.replace(/^.*?(?= · )/, results.querySelector("#headline").textContent);
    speak(results.querySelector(".summary").querySelector("h1").textContent, complete);
    if (complete) results.querySelector("#waiting").hidden = true;
  };
}

function showCounts(results, counts) {
  for (const [status, count] of Object.entries(counts)) {
    const place = results.querySelector(`[data-count="${status}"]`);
    place.textContent = count;
    if (status !== "classified") place.parentElement.hidden = count === 0;
  }
}

function showModels(place, images) {
  const models = new Set(images.map((image) => image.model).filter(Boolean));
  place.textContent = [...models].join(", ");
  place.parentElement.hidden = models.size === 0;
}

function speaker(place) {
  let last = -Infinity;
  return (text, now) => {
    if (!now && performance.now() - last < SPEAK_EVERY) return;
    last = performance.now();
    place.textContent = text;
  };
}
