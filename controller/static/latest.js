/** Remembers the latest requests in this browser. If its storage is turned off, there are none. */

const KEY = "latest-requests";
const MOST = 10;
const CLOCK = { hour: "numeric", minute: "2-digit" };
const DAY = { weekday: "short", day: "numeric", month: "short" };

export function remember({ url, images }) {
  const request = { url, at: Date.now(), count: images.length, first: images[0].filename };
  write([request, ...read()].slice(0, MOST));
}

/** Forgets a request that was deleted. */
export function forget(url) {
  write(read().filter((request) => request.url !== url));
}

/** Fills the section now, after another tab has changed the list, and when people come back to the page. */
export function showLatest(section) {
  const show = () => {
    const requests = read();
    section.querySelector("ol").replaceChildren(...requests.map((it) => newItem(section, it)));
    section.hidden = requests.length === 0;
  };
  section.querySelector("button").addEventListener("click", () => {
    write([]);
    show();
    document.querySelector("#main").focus();
  });
  addEventListener("storage", show);
  addEventListener("pageshow", show);
  show();
}

function newItem(section, { url, at, count, first }) {
  const item = section.querySelector("template").content.firstElementChild.cloneNode(true);
  const time = item.querySelector("time");
  item.querySelector("a").href = url;
  item.querySelector("bdi").textContent = first;
  item.querySelector(".more").textContent = count > 1 ? `and ${count - 1} more` : "";
  time.dateTime = new Date(at).toISOString();
  time.textContent = moment(new Date(at));
  return item;
}

function moment(date) {
  const today = date.toDateString() === new Date().toDateString();
  return `${today ? "today" : date.toLocaleDateString([], DAY)}, ${date.toLocaleTimeString([], CLOCK)}`;
}

function read() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

function write(requests) {
  try {
    localStorage.setItem(KEY, JSON.stringify(requests));
  } catch { /* the storage is turned off or full, so nothing is remembered */ }
}
