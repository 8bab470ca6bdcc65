/** Shows a placeholder for each picture that this browser cannot show, those that are added later too. */

const giveUp = (img) => {
  if (img.dataset.fallback) img.src = img.dataset.fallback;
  delete img.dataset.fallback;
};

document.addEventListener("error", (event) => { if (event.target instanceof HTMLImageElement) giveUp(event.target); }, true);
for (const img of document.images) {
  if (img.complete && img.currentSrc && img.naturalWidth === 0) giveUp(img);
}
