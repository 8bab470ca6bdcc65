/** Shows the preview or a placeholder for each picture that this browser cannot show, those that are added later too. */

const NO_PREVIEW = new URL("no-preview.svg", import.meta.url).href;
const KINDS = { heic: "heic", heif: "heic", tif: "tiff", tiff: "tiff" };

/** Returns what stands for a file of this name until it is answered. For some formats, a preview comes then. */
export function placeholder(name) {
  const kind = KINDS[name.toLowerCase().split(".").pop()];
  return kind ? `${NO_PREVIEW}#${kind}` : NO_PREVIEW;
}

/** Shows what the server has for a picture if this browser cannot show the picture itself. */
export function showPreview(img, preview) {
  if (!img.src.startsWith(NO_PREVIEW)) {
    img.dataset.fallback = preview ?? NO_PREVIEW; // whether the browser can show it is not known yet
    return;
  }
  img.dataset.fallback = NO_PREVIEW;
  img.src = preview ?? NO_PREVIEW;
}

function giveUp(img) {
  const { fallback } = img.dataset;
  if (!fallback || img.src === NO_PREVIEW) return;
  img.dataset.fallback = NO_PREVIEW;
  img.src = fallback;
}

document.addEventListener("error", (event) => { if (event.target instanceof HTMLImageElement) giveUp(event.target); }, true);
for (const img of document.images) {
  if (img.complete && img.currentSrc && img.naturalWidth === 0) giveUp(img);
}
