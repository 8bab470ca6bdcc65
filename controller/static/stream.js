/** A request's news as the server sends them (text/event-stream). */

const SILENCE = 60_000; // milliseconds: the server has more to say, so something between it and us keeps it back

/**
 * Calls `onState` and `onImage` with what comes. After a broken connection the browser takes the stream up again
 * where it stopped; meanwhile `onTrouble` has a sentence, and "" when it is over. Resolves to whether the news
 * came to their end: false when the server refuses the stream, or it stays silent.
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
      else onTrouble("The connection broke off. Trying again.");
    });
    wait();
  });
}
