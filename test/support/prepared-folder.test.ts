import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { prepareFolder } from "./prepared-folder.ts";

let parent: string;

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "prepared-folder-"));
});

afterEach(() => rm(parent, { recursive: true }));

function setup() {
  const path = join(parent, "folder");
  let fills = 0;
  const prepare = () =>
    prepareFolder({
      path,
      contents: ["a", "b"],
      async fill(fresh) {
        fills += 1;
        await writeFile(join(fresh, "a"), "a");
        await writeFile(join(fresh, "b"), "b");
      },
    });
  return { path, prepare, fills: () => fills };
}

describe("prepareFolder", () => {
  it("fills it once and leaves nothing else behind", async () => {
    const { path, prepare, fills } = setup();
    await prepare();
    await prepare();
    expect(fills()).toBe(1);
    expect(await readdir(parent)).toEqual(["folder"]);
    expect(await readFile(join(path, "b"), "utf8")).toBe("b");
  });

  it("lets several ask at the same time and never shows half of it", async () => {
    const { path, prepare } = setup();
    const complete = async () => {
      await prepare();
      return readdir(path);
    };
    const seen = await Promise.all(Array.from({ length: 8 }, complete));
    expect(seen).toEqual(Array(8).fill(["a", "b"]));
    expect(await readdir(parent)).toEqual(["folder"]);
  });

  it("makes it anew when a part is missing", async () => {
    const { path, prepare, fills } = setup();
    await prepare();
    await rm(join(path, "b"));
    await prepare();
    expect(fills()).toBe(2);
    expect(await readdir(path)).toEqual(["a", "b"]);
  });

  it("leaves nothing behind when it cannot be filled", async () => {
    const { path } = setup();
    const fill = () => Promise.reject(new Error("disk full"));
    await expect(prepareFolder({ path, contents: [], fill })).rejects.toThrow("disk full");
    expect(await readdir(parent)).toEqual([]);
  });

  it("refuses what others could have changed", async () => {
    const { path, prepare } = setup();
    await prepare();
    await chmod(path, 0o777);
    await expect(prepare()).rejects.toThrow("only this user can write to");
  });

  it("refuses a link, which could lead anywhere", async () => {
    const { path, prepare } = setup();
    await mkdir(join(parent, "elsewhere"));
    await symlink(join(parent, "elsewhere"), path);
    await expect(prepare()).rejects.toThrow("only this user can write to");
  });
});
