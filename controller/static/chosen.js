/** Shows the pictures that were chosen but not sent yet, as a list with one item per file. */

import { placeholder } from "./no-preview.js";

/** `onChange()` is called after every change. */
export function chosenPictures(list, template, onChange) {
  const files = new Map(); // list item -> File, in the order in which they were added

  function add(newFiles) {
    for (const file of newFiles) {
      const item = newItem(file);
      files.set(item, file);
      list.append(item);
    }
    onChange();
  }

  function newItem(file) {
    const item = template.content.firstElementChild.cloneNode(true);
    const name = item.querySelector(".filename");
    name.textContent = name.title = file.name;
    preview(item.querySelector("img"), file);
    const button = item.querySelector(".remove");
    button.setAttribute("aria-label", `Remove ${file.name}`);
    button.addEventListener("click", () => remove(item));
    return item;
  }

  function remove(item) {
    const neighbour = item.nextElementSibling ?? item.previousElementSibling;
    URL.revokeObjectURL(item.querySelector("img").src);
    files.delete(item);
    item.remove();
    onChange();
    neighbour?.querySelector(".remove").focus();
  }

  /** Shows how much of each picture was sent. They are sent one after the other. `share` (0 to 1) is that of all. */
  function showSent(share) {
    const size = [...files.values()].reduce((sum, file) => sum + file.size, 0);
    let left = share * size;
    for (const [item, file] of files) {
      const part = share === 1 ? 1 : Math.max(0, Math.min(1, left / (file.size || 1)));
      left -= file.size;
      showPart(item, part);
    }
  }

  return {
    add,
    showSent,
    files: () => [...files.values()],
    previews: () => [...files.keys()].map((item) => item.querySelector("img").cloneNode()),
  };
}

function showPart(item, part) {
  const words = part === 1 ? "Uploaded" : part > 0 ? `Uploading, ${Math.floor(part * 100)}%` : "Waiting to be uploaded";
  const place = item.querySelector(".sent");
  if (place.textContent !== words) place.textContent = words;
  item.toggleAttribute("data-sent", part === 1);
}

/** Shows the file, or a placeholder if the browser cannot show it, such as HEIC, TIFF or text. */
function preview(img, file) {
  img.dataset.fallback = placeholder(file.name);
  img.src = URL.createObjectURL(file);
}
