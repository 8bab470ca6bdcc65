/** Gets the answers of a request as they arrive: from its event stream or, if that fails, by polling. */

import { stream } from "./stream.js";

const FIRST_PAUSE = 250; // milliseconds
const LONGEST_PAUSE = 4000;
const BACKOFF = 1.5;

/** The server does not know the request, so no more answers come. */
export class Gone extends Error {}

/** Returns the current state of the request. Throws an Error with the message of the server if that fails. */
export async function ask(address, method = "GET") {
  const reply = await fetch(address, { method, headers: { Accept: "application/json" }, cache: "no-store" });
  const body = await reply.json();
  if (reply.status === 404) throw new Gone(body.error.message);
  if (!reply.ok) throw new Error(body.error.message);
  return body;
}

/** Deletes the request. Throws an Error with the message of the server if that fails. */
export async function remove(address) {
  const reply = await fetch(address, { method: "DELETE", headers: { Accept: "application/json" } });
  if (!reply.ok) throw new Error((await reply.json()).error.message);
}

/** Passes a complete answer on as if it had arrived as events. */
export function tell({ images, wait, counts, complete }, { onState, onImage }) {
  images.forEach(onImage);
  onState({ state: complete ? "done" : "queued", message: "", ...wait, counts, complete });
}

/**
 * Keeps `listener` up to date until all pictures are answered. Calls its `onTrouble(sentence)` when there is a
 * problem, and with "" when it is over. Throws Gone if the request does not exist.
 */
export async function follow(address, listener) {
  if (!(await stream(address, listener))) await poll(address, listener);
}

async function poll(address, listener) {
  let pause = FIRST_PAUSE;
  let last = "";
  for (;;) {
    try {
      const answer = await ask(address);
      listener.onTrouble("");
      tell(answer, listener);
      if (answer.complete) return;
      const now = `${answer.counts.waiting} ${answer.wait?.message}`;
      if (now !== last) pause = FIRST_PAUSE;
      last = now;
    } catch (error) {
      if (error instanceof Gone) throw error;
      listener.onTrouble("The answers cannot be fetched right now. Trying again.");
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * BACKOFF, LONGEST_PAUSE);
  }
}
