/** Lets people try the page with example pictures. */

/** Passes the pictures at `addresses` to `onFiles` when `button` is clicked, or a sentence to `onProblem`. */
export function offerExamples(button, addresses, onFiles, onProblem) {
  button.addEventListener("click", async () => {
    try {
      onFiles(await Promise.all(addresses.map(fetchFile)));
    } catch {
      onProblem("The examples cannot be fetched right now. Choose pictures of your own.");
    }
  });
}

async function fetchFile(address) {
  const reply = await fetch(address);
  if (!reply.ok) throw new Error(`${address}: ${reply.status}`);
  return new File([await reply.blob()], address.split("/").pop(), { type: "image/jpeg" });
}
