/** Keeps the page of the fleet up to date: fetches it again and again, and replaces the parts that have changed. */

const PAUSE = 2000; // milliseconds
const LONGEST_PAUSE = 30000;
const PATIENCE = 15000; // the server needs some seconds to read a large fleet

const page = document.querySelector("#fleet");
const problem = document.querySelector("#problem");
const spoken = document.querySelector("#spoken");
const pace = document.querySelector("#pace");
const live = (root, name) => root.querySelector(`[data-live="${name}"]`);

let failures = 0;
let timer;

async function fetchPage() {
  const reply = await fetch(page.dataset.address, {
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
  const before = document.querySelector("#headline").textContent;
  for (const part of page.querySelectorAll("[data-live]")) {
    const other = live(found, part.dataset.live);
    if (other && !part.isEqualNode(other)) part.replaceChildren(...other.childNodes);
  }
  document.title = found.title;
  const headline = document.querySelector("#headline").textContent;
  if (headline !== before) spoken.textContent = headline;
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
  timer = setTimeout(update, Math.min(PAUSE * 2 ** failures, LONGEST_PAUSE));
}

function tell(error) {
  const reason = error instanceof TypeError || error.name === "TimeoutError" ? "The controller does not answer." : error.message;
  const text = `The fleet cannot be read right now, so this page is out of date. ${reason} Trying again.`;
  if (problem.textContent !== text) problem.textContent = text;
}

pace.textContent = "This page updates itself every two seconds while it is visible.";
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer === undefined) update();
});
timer = setTimeout(update, PAUSE);
