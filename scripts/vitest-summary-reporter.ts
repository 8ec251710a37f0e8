/**
 * Prints one plain line, `N passed, N failed, N skipped`, as the last line of a test run.
 *
 * Usage: npm test -- --reporter=default --reporter=./scripts/vitest-summary-reporter.ts
 *
 * The numbers come from the run that just ended. A file that could not be loaded, a failed
 * `beforeAll` and an error outside every test count as failures, so that the line can never
 * read as a success when the exit code says otherwise.
 */
import type { Reporter, SerializedError, TestModule, TestSuite } from "vitest/node";

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    let passed = 0;
    let skipped = 0;
    let failed = unhandled.length;
    for (const module of modules) {
      failed += brokenGroups(module);
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === "passed") passed += 1;
        else if (state === "skipped") skipped += 1;
        else failed += 1; // "pending" too: a test that never reported has not passed
      }
    }
    const line = [
      `${passed} passed`,
      `${failed} failed`,
      ...(skipped ? [`${skipped} skipped`] : []),
    ];
    process.stdout.write(`\n${line.join(", ")}\n`);
  }
}

/** Files and suites that failed by themselves (import errors, hooks), not through a test. */
function brokenGroups(module: TestModule): number {
  const groups: (TestModule | TestSuite)[] = [module, ...module.children.allSuites()];
  return groups.filter((group) => group.errors().length > 0).length;
}
