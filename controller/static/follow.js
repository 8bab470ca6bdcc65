/** A request's answers as they come, by asking for them. */

const FIRST_PAUSE = 250; // milliseconds
const LONGEST_PAUSE = 4000;
const BACKOFF = 1.5;

export class Gone extends Error {}

/** The request's state as it is now. Gone, with the server's sentence, when there is no such request. */
export async function read(address) {
  const reply = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store" });
  const body = await reply.json();
  if (reply.status === 404) throw new Gone(body.error.message);
  if (!reply.ok) throw new Error(body.error.message);
  return body;
}

/**
 * Yields every state that differs from the one before, until all pictures are answered.
 * A failed look is told to `onTrouble(message)`, which is called with "" when it is over.
 */
export async function* follow(address, onTrouble) {
  let pause = FIRST_PAUSE;
  let waiting = Infinity;
  for (;;) {
    try {
      const state = await read(address);
      onTrouble("");
      if (state.counts.waiting < waiting) {
        waiting = state.counts.waiting;
        pause = FIRST_PAUSE;
        yield state;
      }
      if (state.complete) return;
    } catch (error) {
      if (error instanceof Gone) throw error;
      onTrouble("The answers cannot be fetched right now. Trying again.");
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * BACKOFF, LONGEST_PAUSE);
  }
}
