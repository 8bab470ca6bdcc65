/** Formats numbers for people. */

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;

export const pictures = (count) => (count === 1 ? "1 picture" : `${count} pictures`);

/** Rounds like the macro `percent` in answer_parts.html. */
export function percent(confidence) {
  if (confidence < 0.01) return "<1%";
  if (confidence > 0.99 && confidence < 1) return ">99%";
  return `${Math.round(confidence * 100)}%`;
}
