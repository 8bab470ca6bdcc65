/** Receives files that are dropped anywhere on the page, or pasted. */

export function receiveFiles(onFiles, onProblem) {
  let depth = 0; // every element that the pointer crosses also sends dragenter and dragleave
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = () => document.documentElement.toggleAttribute("data-dragging", depth > 0);

  addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) depth += 1;
    mark();
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event)) depth = Math.max(0, depth - 1);
    mark();
  });
  addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    mark();
    const folders = [...event.dataTransfer.items].filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
    if (folders.length) onProblem("A folder cannot be uploaded. Open it and drop the pictures inside.");
    else onFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) onFiles(event.clipboardData.files);
  });
}
