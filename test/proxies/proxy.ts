import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until, within } from "../support/deadline.ts";

/** One that docs/proxies/ has a configuration for. */
export type ProxyKind = {
  readonly name: string;
  readonly file: string;
  /** Where Debian has it. */
  readonly program: string;
  /** In the foreground, with this file as its configuration and this folder for what it writes. */
  readonly args: (file: string, folder: string) => readonly string[];
};

export const PROXIES: readonly ProxyKind[] = [
  {
    name: "nginx",
    file: "nginx.conf",
    program: "/usr/sbin/nginx",
    args: (file, folder) => [
      "-c",
      file,
      "-p",
      folder,
      "-e",
      "stderr",
      "-g",
      `daemon off; pid ${folder}/pid;`,
    ],
  },
  {
    name: "Caddy",
    file: "Caddyfile",
    program: "/usr/bin/caddy",
    args: (file) => ["run", "--adapter", "caddyfile", "--config", file],
  },
  {
    name: "HAProxy",
    file: "haproxy.cfg",
    program: "/usr/sbin/haproxy",
    args: (file) => ["-db", "-f", file],
  },
  {
    name: "Apache httpd",
    file: "apache.conf",
    program: "/usr/sbin/apache2",
    args: (file, folder) => [
      "-DFOREGROUND",
      "-f",
      file,
      ...["-C", `ServerRoot ${folder}`, "-C", `DefaultRuntimeDir ${folder}`],
      ...["-C", `PidFile ${folder}/pid`, "-C", `ErrorLog ${folder}/error.log`],
      ...["-C", "User nobody", "-C", "Group nogroup"],
    ],
  },
  {
    name: "Varnish",
    file: "varnish.vcl",
    program: "/usr/sbin/varnishd",
    args: (file, folder) => [
      "-F",
      "-j",
      "none",
      "-f",
      file,
      "-n",
      `${folder}/work`,
      "-a",
      "127.0.0.1:8080",
    ],
  },
];

export function isInstalled({ program }: ProxyKind): boolean {
  return spawnSync("test", ["-x", program]).status === 0;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export type RunningProxy = { readonly name: string; readonly url: string; stop(): Promise<void> };

/** Runs the file of the documentation, with other ports. */
export async function startProxy(
  kind: ProxyKind,
  [one, two]: readonly [number, number],
): Promise<RunningProxy> {
  const folder = await mkdtemp(join(tmpdir(), "jobcast-proxy-"));
  await chmod(folder, 0o755); // some give up being root
  const port = await freePort();
  const withPorts = (text: string) =>
    text
      .replaceAll("3001", String(one))
      .replaceAll("3002", String(two))
      .replaceAll("8080", String(port));
  const documented = await readFile(
    new URL(`../../docs/proxies/${kind.file}`, import.meta.url),
    "utf8",
  );
  const file = join(folder, kind.file);
  await writeFile(file, withPorts(documented).replaceAll("/var/log/nginx", folder));
  const child = spawn(kind.program, kind.args(file, folder).map(withPorts), {
    env: { PATH: process.env["PATH"], HOME: folder, XDG_DATA_HOME: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk;
    });
  }
  const ended = once(child, "close");
  const url = `http://127.0.0.1:${port}`;
  const isUp = () =>
    fetch(`${url}/healthz`).then(
      (answer) => answer.status === 200,
      () => false,
    );
  await until(isUp, 20_000, () => `${kind.name} to answer: ${output}`);
  return {
    name: kind.name,
    url,
    async stop() {
      child.kill("SIGTERM");
      await within(ended, 20_000, () => `the end of ${kind.name}: ${output}`);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
