import { join } from "node:path";
import { type Browser, chromium, type LaunchOptions } from "playwright-core";
import { prepareChromiumFolder } from "./chromium-folder.ts";

const FLAGS = [
  // A test browser talks to the loopback and to nobody else: no update checks, no other protocol
  // than the one under test, no proxy of the environment, no name that a resolver would ask about.
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--disable-quic",
  "--no-proxy-server",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost",
];

/**
 * Starts a headless Chromium that needs nothing installed on the machine: it brings its libraries
 * and fonts along. Security (CORS, site isolation) is that of an ordinary browser; only the sandbox
 * is off, because it needs a setuid helper, and root cannot use it at all.
 *
 * With CHROMIUM_PATH set, starts that browser instead. `options` are Playwright's; `args` are added
 * to ours. The caller closes the browser.
 *
 * @throws {Error} when the machine cannot run it.
 */
export async function launchChromium(options: LaunchOptions = {}): Promise<Browser> {
  return chromium.launch({
    ...(await locate()),
    chromiumSandbox: false,
    ...options,
    args: [...FLAGS, ...(options.args ?? [])],
  });
}

async function locate(): Promise<LaunchOptions> {
  const ownPath = process.env["CHROMIUM_PATH"];
  if (ownPath) return { executablePath: ownPath };
  const folder = await prepareChromiumFolder();
  return {
    executablePath: join(folder, "chromium"),
    env: {
      PATH: process.env["PATH"],
      HOME: folder,
      LD_LIBRARY_PATH: join(folder, "al2023", "lib"),
      FONTCONFIG_FILE: join(folder, "fonts.conf"),
    },
  };
}
