/**
 * Unpacks the browser of @sparticuz/chromium into the folder that TMPDIR names, and ends.
 *
 * It is a process of its own because the package takes its target from os.tmpdir() and its way of
 * working from the environment: AWS_LAMBDA_JS_RUNTIME makes it unpack, besides the browser, the
 * libraries (NSS, NSPR, expat) that a bare machine lacks. Neither should change in a test process.
 */
import chromium from "@sparticuz/chromium";

await chromium.executablePath();
