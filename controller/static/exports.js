/** The answers to take away: the address, CSV and JSON. */

const COLUMNS = {
  filename: (image) => image.filename,
  status: (image) => image.status,
  label: (image) => image.label,
  confidence: (image) => image.confidence,
  error: (image) => image.error?.message,
  model: (image) => image.model,
  image_id: (image) => image.image_id,
};

/** RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe before it. */
export function csv(answer) {
  const rows = answer.images.map((image) => Object.values(COLUMNS).map((value) => cell(value(image))));
  return [Object.keys(COLUMNS), ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Makes the buttons work. `current()` promises the answer as it is now. */
export function offerExports(results, current) {
  const name = results.dataset.url.split("/").pop();
  const actions = {
    "copy-link": () => copy(Promise.resolve(new URL(results.dataset.url, location.href).href)),
    "copy-csv": () => copy(current().then(csv)),
    // The byte order mark tells Excel that it is UTF-8.
    "save-csv": async () => save(`\ufeff${csv(await current())}`, "text/csv", `${name}.csv`),
    "save-json": async () => save(JSON.stringify(await current(), null, 2), "application/json", `${name}.json`),
  };
  const bar = results.querySelector("#exports");
  bar.addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const done = await actions[button.dataset.do]().then(() => "Done", () => "Not possible");
    report(button, done);
  });
  bar.hidden = false;
  results.querySelector("#json").hidden = true;
}

/** Takes a promise, because Safari allows a copy only right in the click. */
function copy(text) {
  const blob = text.then((it) => new Blob([it], { type: "text/plain" }));
  return navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
}

function save(text, type, filename) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = filename;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function report(button, outcome) {
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = outcome;
  setTimeout(() => { button.textContent = label; }, 1500);
}
