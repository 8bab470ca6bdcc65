/** Receives the events of a request (text/event-stream). */

const SILENCE = 60_000; // milliseconds; the server sends more often, so a proxy must be holding the events back

/**
 * Calls `onState` and `onImage` with the events. When the connection is lost, the browser reconnects and continues
 * where the stream stopped. Meanwhile, `onTrouble` is called with a sentence, and with "" when it is over. Resolves
 * to true after the last event, or to false if the server refuses the stream or no event arrives for a while.
 */
export function stream(address, { onState, onImage, onTrouble }) {
  return new Promise((resolve) => {
    const source = new EventSource(`${address}/events`);
    let alarm;

    function end(complete) {
      clearTimeout(alarm);
      source.close();
      resolve(complete);
    }
    function hear(name, tell) {
      source.addEventListener(name, ({ data }) => {
        wait();
        tell(JSON.parse(data));
      });
    }
    function wait() {
      clearTimeout(alarm);
      alarm = setTimeout(end, SILENCE, false);
    }

    hear("image", onImage);
    hear("state", (state) => {
      onState(state);
      if (state.complete) end(true);
    });
    source.addEventListener("open", () => onTrouble(""));
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) end(false);
      else onTrouble("The connection was lost. Trying again.");
    });
    wait();
  });
}
