/**
 * The named members of a JSON object, each as it is written: parsed and written again, a number would
 * lose what no double holds.
 * @param json an object as PostgreSQL or JSON.stringify writes it
 */
export function pickMembers(json: string, names: ReadonlySet<string>): string {
  const picked: string[] = [];
  for (const member of membersOf(json)) {
    if (names.has(nameOf(member))) picked.push(member.trim());
  }
  return `{${picked.join(",")}}`;
}

/** What stands between the commas that are in no string and no value. */
function* membersOf(json: string): Generator<string> {
  let depth = 0;
  let isInString = false;
  let start = 1;
  for (let at = 0; at < json.length; at++) {
    const char = json[at];
    if (isInString) {
      if (char === "\\") at++;
      else if (char === '"') isInString = false;
    } else if (char === '"') isInString = true;
    else if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]") depth--;
    const isEnd = !isInString && (depth === 0 || (depth === 1 && char === ","));
    if (!isEnd) continue;
    if (at > start) yield json.slice(start, at);
    start = at + 1;
  }
}

/** Names of ours have nothing in them that JSON would escape. */
function nameOf(member: string): string {
  return /^\s*"([^"\\]*)"/.exec(member)?.[1] ?? "";
}
