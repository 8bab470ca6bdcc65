/** What the page says while pictures wait: the server's sentence, with its estimate running down. */

const AGREES = 8; // seconds: an estimate that differs less from the one shown does not change it
const ABOUT = /\babout \d+ s\b/;

/** Shows `{ message, estimate_seconds }` in `place` until the next call. */
export function waitingWords(place) {
  let sentence = "";
  let end = null; // when the estimate is over, as performance.now() has it
  let next;

  function show() {
    clearTimeout(next);
    const left = (end - performance.now()) / 1000;
    const text = end === null ? sentence : sentence.replace(ABOUT, about(left));
    if (place.textContent !== text) place.textContent = text;
    if (end !== null && left > 0) next = setTimeout(show, 1000);
  }

  return ({ message, estimate_seconds: estimate }) => {
    sentence = message || place.textContent;
    const newEnd = estimate == null ? null : performance.now() + estimate * 1000;
    if (end === null || newEnd === null || Math.abs(newEnd - end) > AGREES * 1000) end = newEnd;
    show();
  };
}

/** In steps of 5 seconds: a number that changes every second says more than it knows. */
function about(seconds) {
  return seconds > 5 ? `about ${Math.ceil(seconds / 5) * 5} s` : "a few seconds";
}
