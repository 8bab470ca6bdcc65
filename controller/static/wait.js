/** Shows the message of the server while pictures wait. The estimate in it is counted down. */

const AGREES = 8; // seconds; a new estimate that differs by no more than this is ignored
const ABOUT = /\babout \d+ s\b/;

/**
 * Returns `show` and `stop`. `show({ message, estimate_seconds })` shows a wait in `place` until the next call, and
 * `stop()` ends the countdown.
 */
export function waitingWords(place) {
  let sentence = "";
  let end = null; // the performance.now() at which the estimated time is over
  let next;

  function stop() {
    clearTimeout(next);
    end = null;
  }

  function refresh() {
    clearTimeout(next);
    const left = (end - performance.now()) / 1000;
    const text = end === null ? sentence : sentence.replace(ABOUT, about(left));
    if (place.textContent !== text) place.textContent = text;
    if (end !== null && left > 0) next = setTimeout(refresh, 1000);
  }

  function show({ message, estimate_seconds: estimate }) {
    sentence = message || place.textContent;
    const newEnd = estimate == null ? null : performance.now() + estimate * 1000;
    if (end === null || newEnd === null || Math.abs(newEnd - end) > AGREES * 1000) end = newEnd;
    refresh();
  }

  return { show, stop };
}

/** Rounds up to steps of 5 seconds, because the estimate is not more precise than that. */
function about(seconds) {
  return seconds > 5 ? `about ${Math.ceil(seconds / 5) * 5} s` : "a few seconds";
}
