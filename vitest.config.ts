import { defineConfig } from "vitest/config";

/** These measure: they have the machine to themselves, after all others have ended. */
const LOAD = "test/load/**/*.test.ts";

export default defineConfig({
  test: {
    globalSetup: ["test/support/global-setup.ts"],
    setupFiles: ["test/support/seed.ts"],
    pool: "forks",
    // Generous, because they only say when to give up: a passing test waits for events, not for time.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Every worker drives its own databases and sockets on a machine that may have two cores:
    // more of them would turn deadlines that wait for real events into races for the processor.
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: "behaviour",
          include: ["test/**/*.test.ts"],
          exclude: [LOAD],
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "load",
          include: [LOAD],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
