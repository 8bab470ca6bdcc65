/** The page of the API. Its forms show the curl command for what is filled in, and can send the request. */

import { command } from "./curl.js";

const WHY_EVERY = 2000; // milliseconds

const { origin, restricted } = document.querySelector("#operations").dataset;

for (const form of document.querySelectorAll(".operation form")) {
  const shown = form.querySelector(".command");
  const button = form.querySelector("button");
  const reply = form.parentElement.querySelector(".reply");
  const show = () => {
    shown.textContent = command(origin, filledIn(form), restricted === "true");
  };
  button.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    reply.hidden = false;
    const stopTelling = tellWhy(reply);
    try {
      await send(filledIn(form), reply, stopTelling);
    } catch {
      reply.textContent = "The connection was lost. Check it, then send the request again.";
    } finally {
      stopTelling();
      button.disabled = false;
    }
  });
  show();
}

/** Says that the answer is being waited for and, after a while, what the fleet does. Returns what ends that. */
function tellWhy(reply) {
  let waits = true;
  reply.textContent = "Waiting for the answer";
  const timer = setInterval(async () => {
    const fleet = await fetch("/fleet", { headers: { Accept: "text/plain" } }).catch(() => null);
    const headline = fleet?.ok ? (await fleet.text()).split("\n", 1)[0] : "";
    if (waits && headline) reply.textContent = `Waiting for the answer. ${headline}.`;
  }, WHY_EVERY);
  return () => {
    waits = false;
    clearInterval(timer);
  };
}

/** Fills the id of a new request, with the name of its first picture, or of a batch into all forms that ask for it. */
function carryOn({ request_id: id, images, batch_id }) {
  const known = batch_id ? { batch_id } : {};
  if (id && images?.length) Object.assign(known, { request_id: id, name: images[0].image_id.slice(id.length + 1) });
  for (const [name, value] of Object.entries(known)) {
    for (const field of document.querySelectorAll(`[data-in="path"][data-name="${name}"] input`)) {
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }
}

/**
 * Returns the request of the form. Headers are [name, value], files are [field, File], content is a File, and json is
 * text.
 */
function filledIn(form) {
  const asked = { method: form.dataset.method, path: form.dataset.path, headers: [], files: [] };
  const query = new URLSearchParams();
  for (const part of form.querySelectorAll(".parameter")) {
    const { in: where, name } = part.dataset;
    const { value, files } = part.querySelector("input, select, textarea");
    if (where === "files") asked.files = (files.length ? [...files] : [{ name: "cat.jpg" }]).map((file) => [name, file]);
    else if (where === "body") asked.content = files[0] ?? { name: "cat.jpg" };
    else if (value === "") continue;
    else if (where === "json") asked.json = value;
    else if (where === "path") asked.path = asked.path.replace(`{${name}}`, encodeURIComponent(value));
    else if (where === "query") query.set(name, value);
    else asked.headers.push([name, value]);
  }
  if (asked.json) asked.headers.push(["Content-Type", "application/json"]);
  if (query.size) asked.path += `?${query}`;
  return asked;
}

async function send({ method, path, headers, files, content, json }, reply, onAnswer) {
  const body = files.length ? new FormData() : (content ?? json);
  for (const [name, file] of files) body.append(name, file);
  const answer = await fetch(path, { method, headers, body, cache: "no-store" });
  onAnswer();
  const head = document.createElement("pre");
  head.textContent = [`${answer.status} ${answer.statusText}`, ...[...answer.headers].map((h) => h.join(": "))].join("\n");
  head.tabIndex = 0; // it may have to be scrolled
  reply.replaceChildren(head);
  const type = answer.headers.get("Content-Type") ?? "";
  if (type.startsWith("image/")) return reply.append(picture(await answer.blob()));
  const text = document.createElement("pre");
  text.tabIndex = 0;
  reply.append(text);
  if (type.startsWith("application/json")) {
    const found = await answer.json();
    text.textContent = JSON.stringify(found, null, 2);
    carryOn(found);
    return;
  }
  if (!/^text\/|json/.test(type)) {
    text.textContent = `${(await answer.blob()).size} bytes that are no text.`;
    return;
  }
  const decoder = new TextDecoder();
  const reader = answer.body.getReader(); // shows events as they arrive
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text.textContent += decoder.decode(part.value, { stream: true });
  }
}

function picture(blob) {
  const img = document.createElement("img");
  img.alt = "The picture of the answer";
  img.src = URL.createObjectURL(blob);
  return img;
}
