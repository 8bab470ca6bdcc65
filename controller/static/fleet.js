/** Keeps the page of the fleet up to date: fetches it anew, and takes over the parts that have changed. */

const PAUSE = 2000; // milliseconds
const LONGEST_PAUSE = 30000;
const PATIENCE = 15000; // a large fleet takes some seconds to read

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

/** What has not changed stays as it is, so that a selection in it stays, too. */
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

async function renew() {
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
  timer = setTimeout(renew, Math.min(PAUSE * 2 ** failures, LONGEST_PAUSE));
}

function tell(error) {
  const reason = error instanceof TypeError || error.name === "TimeoutError" ? "The controller does not answer." : error.message;
  const text = `What is shown is old: the fleet cannot be read right now. ${reason} Trying again by itself.`;
  if (problem.textContent !== text) problem.textContent = text;
}

pace.textContent = "This page renews itself every two seconds while it is visible.";
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer === undefined) renew();
});
timer = setTimeout(renew, PAUSE);
