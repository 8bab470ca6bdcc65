/** Starts the first page: choose pictures, send them, and become the page of their request. */

import { moveTo } from "./address.js";
import { chosenPictures } from "./chosen.js";
import { receiveFiles } from "./drop.js";
import { remember, showLatest } from "./latest.js";
import { followRequest } from "./results.js";
import { upload } from "./upload.js";
import { megabytes, pictures } from "./words.js";

const PART_OVERHEAD = 600; // bytes that multipart/form-data adds to a file, about

const form = document.querySelector("#chooser");
const [choose, problem, total, sent, cancel, submit] = ["choose", "problem", "total", "sent", "cancel", "submit"].map(
  (id) => document.getElementById(id),
);
const chosen = chosenPictures(form.querySelector("#chosen"), document.querySelector("#chosen-picture"), showChosen);
let sending = null; // an AbortController, while an upload is under way

document.documentElement.dataset.js = "";
showChosen();

for (const picker of form.querySelectorAll(".picker")) {
  picker.addEventListener("change", () => {
    add(picker.files);
    picker.value = "";
  });
}
receiveFiles(add, tell);
showLatest(document.querySelector("#latest"));
cancel.addEventListener("click", () => sending?.abort());
addEventListener("beforeunload", (event) => {
  if (sending) event.preventDefault(); // the browser asks whether to leave: the pictures are not sent yet
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

function add(files) {
  if (!form.isConnected || sending) return;
  chosen.add(files);
}

function tell(sentence) {
  problem.textContent = sentence;
}

function showChosen() {
  const files = chosen.files();
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const excess = tooMuch(files.length, size);
  form.dataset.state = files.length ? "chosen" : "empty";
  total.textContent = files.length ? `${pictures(files.length)}, ${megabytes(size)}` : "";
  choose.textContent = files.length ? "Add more" : "Choose pictures";
  choose.classList.toggle("main", files.length === 0);
  submit.disabled = files.length === 0 || excess !== "";
  tell(excess);
}

function tooMuch(count, size) {
  const maxFiles = Number(form.dataset.maxFiles);
  const maxBytes = Number(form.dataset.maxBytes);
  if (count > maxFiles) return `${pictures(count)} are too many: at most ${maxFiles} at once. Remove some.`;
  if (size + count * PART_OVERHEAD > maxBytes) {
    return `${megabytes(size)} are too much: at most ${megabytes(maxBytes)} at once. Remove some.`;
  }
  return "";
}

async function send() {
  sending = new AbortController();
  setSending(true);
  tell("");
  try {
    const answer = await upload(form.action, chosen.files(), { onProgress: showSent, signal: sending.signal });
    sending = null;
    remember(answer);
    await becomeRequest(answer.url).catch(() => location.assign(answer.url));
  } catch (error) {
    sending = null;
    setSending(false);
    showChosen();
    if (error.name !== "AbortError") tell(error.message);
  }
}

function setSending(on) {
  form.dataset.state = on ? "sending" : "chosen";
  submit.hidden = on;
  sent.hidden = cancel.hidden = !on;
  sent.value = 0;
  total.ariaLive = on ? "off" : "polite"; // nobody wants every megabyte read out
  if (on) showSent(0, 1);
  (on ? cancel : submit).focus();
}

function showSent(loaded, size) {
  const all = loaded === size;
  total.textContent = all ? "Uploaded. The server puts the pictures into its queue."
    : loaded ? `Uploading: ${megabytes(loaded)} of ${megabytes(size)}` : "Uploading";
  if (all) sent.removeAttribute("value");
  else sent.value = loaded / size;
  chosen.showSent(loaded / size);
}

/** Takes over the server's page of the request, with the previews that are here already. */
async function becomeRequest(url) {
  const reply = await fetch(url, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!reply.ok) throw new Error(`${url}: ${reply.status}`);
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  const previews = chosen.images();
  page.querySelectorAll(".card .picture").forEach((place, number) => {
    previews[number].alt = place.querySelector("img").alt;
    place.replaceChildren(previews[number]);
  });
  moveTo(url, "pushState");
  document.title = page.title;
  document.querySelector("#main").replaceWith(document.adoptNode(page.querySelector("#main")));
  scrollTo(0, 0);
  document.querySelector("#headline").focus();
  followRequest(document.querySelector("#results"));
}
