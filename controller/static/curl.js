/** Writes an HTTP request as a curl command for a shell. */

export function command(origin, { method, path, headers, files }, restricted) {
  const words = ["curl"];
  if (method !== (files.length ? "POST" : "GET")) words.push("-X", method);
  if (restricted) words.push("-H", '"Authorization: Bearer $TOKEN"');
  for (const [name, value] of headers) words.push("-H", quoted(`${name}: ${value}`));
  for (const [name, file] of files) words.push("-F", quoted(`${name}=@${file.name}`));
  return [...words, quoted(origin + path)].join(" ");
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
