import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { prepareFolder } from "./prepared-folder.ts";

const UNPACKER = fileURLToPath(new URL("./unpack-chromium.ts", import.meta.url));

/**
 * Gives the folder with the unpacked browser of @sparticuz/chromium, unpacking it first (2 s,
 * 220 MB in the temporary folder) if this user has not done so before. Safe to call from several
 * processes at once.
 *
 * @throws {Error} when the machine cannot run that browser.
 */
export async function prepareChromiumFolder(): Promise<string> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(
      `The packaged Chromium runs on Linux x64, this is ${process.platform} ${process.arch}: ` +
        "set CHROMIUM_PATH to a Chromium or Chrome of this machine.",
    );
  }
  const name = `jobcast-chromium-${await packageVersion()}-${process.getuid?.()}`;
  const path = join(tmpdir(), name);
  await prepareFolder({
    path,
    contents: ["chromium", "al2023/lib/libnss3.so", "al2023/lib/libsoftokn3.so", "fonts.conf"],
    async fill(fresh) {
      await unpack(fresh);
      await writeFile(join(fresh, "fonts.conf"), fontConfiguration(path));
    },
  });
  return path;
}

async function unpack(fresh: string): Promise<void> {
  const env = { PATH: process.env["PATH"], TMPDIR: fresh, AWS_LAMBDA_JS_RUNTIME: "nodejs22.x" };
  await promisify(execFile)(process.execPath, [UNPACKER], { env });
}

/** The package's own fonts.conf names folders such as /tmp/fonts, where these fonts are not. */
function fontConfiguration(path: string): string {
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>${path}/fonts/fonts</dir><cachedir>${path}/fonts-cache</cachedir></fontconfig>
`;
}

async function packageVersion(): Promise<string> {
  // Found from its entry point, as the package does not export its package.json.
  const entry = createRequire(import.meta.url).resolve("@sparticuz/chromium");
  const text = await readFile(join(dirname(entry), "..", "..", "package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
