import type { Request, Response } from "express";
import { JobcastError } from "../errors.ts";
import { Tally } from "../tally.ts";
import { MAX_BODY } from "./limits.ts";

/** Bytes of bodies that are here at a time, and what one caller may have of them. */
const MAX_BYTES = 16 * MAX_BODY;
const MAX_OWNED_BYTES = 4 * MAX_BODY;

/** Smaller ones are always let in: reports of progress do not wait for uploads. */
const SMALL_BYTES = 8 * 1_024;

const WAIT_MS = 5_000;

/** More than this many would wait in vain. */
const MAX_WAITING = 200;

type Waiting = { readonly owner: string; readonly bytes: number; readonly start: () => void };

/** Room for the bodies of requests: from before they are read until they are answered. */
export class BodyPlaces {
  readonly #owners = new Tally();
  #taken = 0;
  #waiting: Waiting[] = [];

  /**
   * Waits for room for the body of this request, which it gives back with the end of its answer.
   * @throws {JobcastError} overloaded, when there is none in time
   */
  async take(req: Request, res: Response, owner: string, maxBytes: number): Promise<void> {
    const bytes = Math.min(maxBytes, sizeOf(req));
    if (bytes <= SMALL_BYTES) return;
    if (this.#hasRoom(owner, bytes)) this.#move(owner, bytes);
    else await this.#wait(owner, bytes);
    if (res.closed) this.#giveBack(owner, bytes);
    else res.once("close", () => this.#giveBack(owner, bytes));
  }

  #hasRoom(owner: string, bytes: number): boolean {
    const owned = this.#owners.of(owner);
    return this.#taken + bytes <= MAX_BYTES && owned + bytes <= MAX_OWNED_BYTES;
  }

  #move(owner: string, bytes: number): void {
    this.#taken += bytes;
    this.#owners.add(owner, bytes);
  }

  #giveBack(owner: string, bytes: number): void {
    this.#move(owner, -bytes);
    for (const waiting of this.#waiting) {
      if (!this.#hasRoom(waiting.owner, waiting.bytes)) continue;
      this.#waiting = this.#waiting.filter((other) => other !== waiting);
      waiting.start();
    }
  }

  #wait(owner: string, bytes: number): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING) return Promise.reject(overloaded());
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        owner,
        bytes,
        start: () => {
          clearTimeout(timer);
          this.#move(owner, bytes);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting);
        reject(overloaded());
      }, WAIT_MS);
      this.#waiting.push(waiting);
    });
  }
}

function overloaded(): JobcastError {
  return new JobcastError("overloaded", "Too many large requests at once; try again.");
}

/** What it may come to: of a packed body, or one that does not say, as much as there may be. */
function sizeOf({ headers }: Request): number {
  const isPacked = headers["content-encoding"] !== undefined;
  const length = headers["content-length"];
  if (length === undefined && headers["transfer-encoding"] === undefined) return 0;
  if (isPacked || length === undefined) return MAX_BODY;
  return Math.min(Number(length) || 0, MAX_BODY);
}
