/** The upload: XMLHttpRequest, because fetch() does not tell how much was sent. */

/**
 * Resolves to the request's first state, as soon as the server has taken the pictures.
 * Rejects with an Error whose message is for people; with an AbortError when `signal` aborts.
 */
export function upload(address, files, { onProgress, signal }) {
  const body = new FormData();
  for (const file of files) body.append("image_file", file);
  const call = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    call.onload = () => (call.status === 202 ? resolve(JSON.parse(call.response)) : reject(refusal(call)));
    call.onerror = async () => reject(new Error(await whatBroke(files)));
    call.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
  });
  call.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
  signal.addEventListener("abort", () => call.abort());
  call.open("POST", address);
  call.setRequestHeader("Accept", "application/json");
  call.setRequestHeader("Prefer", "respond-async");
  call.send(body);
  return done;
}

/** A file that changed on disk after it was chosen breaks the upload just as the network does. */
async function whatBroke(files) {
  for (const file of files) {
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      return `${file.name} has changed or is gone since it was chosen. Remove it, and add it again.`;
    }
  }
  return "The connection broke off. Check it, then classify again.";
}

/** The server's own sentence, or one for a proxy that has none. */
function refusal(call) {
  try {
    return new Error(JSON.parse(call.response).error.message);
  } catch {
    if (call.status === 413) return new Error("That is more than the server takes at once. Send fewer pictures.");
    return new Error(`The server could not take the pictures (${call.status}). Try again in a minute.`);
  }
}
