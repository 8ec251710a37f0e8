import { type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";

/**
 * Runs a command, whose output is ours.
 * @throws {Error} when it does not end with 0
 */
export async function run(
  file: string,
  args: readonly string[],
  options: Pick<SpawnOptions, "cwd" | "env" | "signal" | "uid" | "gid">,
): Promise<void> {
  const child = spawn(file, args, { ...options, stdio: ["ignore", "inherit", "inherit"] });
  const [code, signal] = await once(child, "exit");
  if (code !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${code ?? signal}`);
}
