/**
 * Keeps a page up to date: fetches it again and again, and replaces the parts that have changed. The page says how
 * many seconds lie in between. It ends when the page says that it is complete.
 */

const LONGEST_PAUSE = 30000; // milliseconds
const PATIENCE = 15000; // the server needs some seconds to read a large fleet

const ROOT = "[data-address]";
const page = document.querySelector(ROOT);
const { address, subject } = page.dataset;
const problem = document.querySelector("#problem");
const spoken = document.querySelector("#spoken");
const pace = document.querySelector("#pace");
const parts = [...page.querySelectorAll("[data-live]")];
const shown = new Map(parts.map((part) => [part, part.cloneNode(true)]));

let complete = page.dataset.complete === "true";
let seconds = page.dataset.seconds;
let failures = 0;
let timer;

async function fetchPage() {
  const reply = await fetch(address, {
    headers: { Accept: "text/html" },
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE),
  });
  const found = new DOMParser().parseFromString(await reply.text(), "text/html");
  if (reply.ok) return found;
  throw new Error(found.querySelector(".lead")?.textContent ?? `The controller answered ${reply.status}.`);
}

/** Leaves parts that have not changed as they are, so that text that is selected in them stays selected. */
function show(found) {
  for (const part of parts) {
    const other = found.querySelector(`[data-live="${part.dataset.live}"]`);
    if (other && !shown.get(part).isEqualNode(other)) replace(part, other);
  }
  document.title = found.title;
  const now = found.querySelector(ROOT).dataset;
  if (now.say !== page.dataset.say) spoken.textContent = page.dataset.say = now.say;
  complete = now.complete === "true";
  seconds = now.seconds;
}

/** What had the focus is gone then, so the headline gets it. */
function replace(part, other) {
  const focused = part.contains(document.activeElement);
  shown.set(part, other.cloneNode(true));
  part.replaceChildren(...other.childNodes);
  if (focused) document.querySelector("h1").focus({ preventScroll: true });
}

async function update() {
  clearTimeout(timer);
  timer = undefined;
  if (document.hidden) return;
  try {
    show(await fetchPage());
    failures = 0;
    problem.textContent = "";
  } catch (error) {
    failures += 1;
    tell(error);
  }
  goOn();
}

function goOn() {
  clearTimeout(timer);
  pace.textContent = complete ? "" : `This page updates itself every ${seconds} seconds while it is visible.`;
  if (!complete) timer = setTimeout(update, Math.min(seconds * 1000 * 2 ** failures, LONGEST_PAUSE));
}

function tell(error) {
  const reason = error instanceof TypeError || error.name === "TimeoutError" ? "The controller does not answer." : error.message;
  const text = `${subject} cannot be read right now, so this page is out of date. ${reason} Trying again.`;
  if (problem.textContent !== text) problem.textContent = text;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !complete) update();
});
goOn();
