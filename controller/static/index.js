/** Starts the first page, on which people choose pictures and send them. It then becomes the page of the request. */

import { moveTo } from "./address.js";
import { chosenPictures } from "./chosen.js";
import { receiveFiles } from "./drop.js";
import { offerExamples } from "./examples.js";
import { remember, showLatest } from "./latest.js";
import { showPreview } from "./no-preview.js";
import { followRequest } from "./results.js";
import { upload } from "./upload.js";
import { megabytes, pictures } from "./words.js";

const PART_OVERHEAD = 600; // about as many bytes as multipart/form-data adds to a file

const form = document.querySelector("#chooser");
const [choose, problem, total, sent, cancel, submit] = ["choose", "problem", "total", "sent", "cancel", "submit"].map(
  (id) => document.getElementById(id),
);
const chosen = chosenPictures(form.querySelector("#chosen"), document.querySelector("#chosen-picture"), showChosen);
let sending = null; // an AbortController during an upload

document.documentElement.dataset.js = "";
showChosen();

for (const picker of form.querySelectorAll(".picker")) {
  picker.addEventListener("change", () => {
    add(picker.files);
    picker.value = "";
  });
}
receiveFiles(add, tell);
const examples = document.querySelector("#examples");
offerExamples(examples, examples.dataset.addresses.split(" "), add, tell);
showLatest(document.querySelector("#latest"));
cancel.addEventListener("click", () => sending?.abort());
addEventListener("beforeunload", (event) => {
  if (sending) event.preventDefault(); // the browser then asks whether to leave the page
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
  if (count > maxFiles) return `${pictures(count)} are too many: at most ${maxFiles} at once. Remove some of them.`;
  if (size + count * PART_OVERHEAD > maxBytes) {
    return `${megabytes(size)} are too much: at most ${megabytes(maxBytes)} at once. Remove some of the pictures.`;
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
  total.ariaLive = on ? "off" : "polite"; // so that screen readers do not read every megabyte
  if (on) showSent(0, 1);
  (on ? cancel : submit).focus();
}

function showSent(loaded, size) {
  const all = loaded === size;
  total.textContent = all ? "Uploaded. The server is adding the pictures to its queue."
    : loaded ? `Uploading: ${megabytes(loaded)} of ${megabytes(size)}` : "Uploading";
  if (all) sent.removeAttribute("value");
  else sent.value = loaded / size;
  chosen.showSent(loaded / size);
}

/** Replaces this page by the page of the request, but shows the same previews. */
async function becomeRequest(url) {
  const reply = await fetch(url, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!reply.ok) throw new Error(`${url}: ${reply.status}`);
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  const previews = chosen.previews();
  page.querySelectorAll(".card .picture").forEach((place, number) => {
    const { alt, src } = place.querySelector("img");
    previews[number].alt = alt;
    showPreview(previews[number], src);
    place.replaceChildren(previews[number]);
  });
  const [chooser, title] = [document.querySelector("#main"), document.title];
  moveTo(url, "pushState");
  document.title = page.title;
  chooser.replaceWith(document.adoptNode(page.querySelector("#main")));
  scrollTo(0, 0);
  document.querySelector("#headline").focus();
  followRequest(document.querySelector("#results"), () => {
    moveTo(form.action, "pushState");
    document.title = title;
    document.querySelector("#main").replaceWith(chooser);
    setSending(false);
    showChosen();
    submit.focus();
  });
}
