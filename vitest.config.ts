import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    pool: "forks",
    // Every worker drives its own databases and sockets on a machine that may have two cores:
    // more of them would turn deadlines that wait for real events into races for the processor.
    maxWorkers: 2,
    // Generous, because they only say when to give up: a passing test waits for events, not for time.
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
