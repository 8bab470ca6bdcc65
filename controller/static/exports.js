/** Copies the address or the answers of a request to the clipboard. */

/** Shows the buttons and makes them work. */
export function offerExports(results) {
  const { url } = results.dataset;
  const texts = {
    "copy-link": async () => new URL(url, location.href).href,
    "copy-csv": () => csv(url),
  };
  const bar = results.querySelector("#exports");
  bar.addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const done = await copy(texts[button.dataset.do]()).then(() => "Copied", () => "Could not copy");
    report(button, done);
  });
  bar.hidden = false;
}

async function csv(url) {
  const answer = await fetch(`${url}?format=csv`, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}

/** Copies the text of a promise. Safari only allows this directly in the click, so it cannot be awaited before. */
function copy(text) {
  const blob = text.then((it) => new Blob([it], { type: "text/plain" }));
  return navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
}

function report(button, outcome) {
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = outcome;
  setTimeout(() => { button.textContent = label; }, 1500);
}
