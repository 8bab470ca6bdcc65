/** Uploads pictures with XMLHttpRequest, because fetch() does not report how much was sent. */

/**
 * Resolves to the first state of the request, as soon as the server has accepted the pictures.
 * Rejects with an Error whose message is for people, or with an AbortError when `signal` aborts.
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

/** Returns why the upload failed. A file that was changed on disk causes the same error as the network. */
async function whatBroke(files) {
  for (const file of files) {
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      return `${file.name} was changed or deleted after you chose it. Remove it here and add it again.`;
    }
  }
  return "The connection was lost. Check it, then classify again.";
}

/** Returns an Error with the message of the server, or with another one if a proxy has sent no message. */
function refusal(call) {
  try {
    return new Error(JSON.parse(call.response).error.message);
  } catch {
    if (call.status === 413) return new Error("That is more than the server accepts at once. Send fewer pictures.");
    return new Error(`The server could not accept the pictures (${call.status}). Try again in a minute.`);
  }
}
