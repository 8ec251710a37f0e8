import fc from "fast-check";
import { beforeEach } from "vitest";
import { SEED } from "./random.ts";

fc.configureGlobal({ seed: SEED });

// A failure names the seed that it can be run again with; whatever was random in it depends on it.
beforeEach(({ onTestFailed }) => {
  onTestFailed(({ task }) => console.error(`${task.name}: TEST_SEED=${SEED}`));
});
