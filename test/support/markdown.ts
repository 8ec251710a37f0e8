import { readFile } from "node:fs/promises";

/** The code blocks of a language in a document of this repository, in their order. */
export async function codeBlocks(path: string, language: string): Promise<string[]> {
  const text = await readFile(new URL(`../../${path}`, import.meta.url), "utf8");
  const blocks = text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"));
  return [...blocks].map(([, code = ""]) => code);
}
