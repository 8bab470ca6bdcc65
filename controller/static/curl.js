/** Writes an HTTP request as a curl command for a shell. */

export function command(origin, { method, path, headers, files, content, json }, restricted) {
  const words = ["curl"];
  const implied = content ? "PUT" : files.length || json ? "POST" : "GET";
  if (method !== implied) words.push("-X", method);
  if (restricted) words.push("-H", '"Authorization: Bearer $TOKEN"');
  for (const [name, value] of headers) words.push("-H", quoted(`${name}: ${value}`));
  for (const [name, file] of files) words.push("-F", quoted(`${name}=@${file.name}`));
  if (json) words.push("-d", quoted(json));
  if (content) words.push("-T", quoted(content.name));
  return [...words, quoted(origin + path)].join(" ");
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
