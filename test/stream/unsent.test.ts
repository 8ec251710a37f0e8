import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Holder, Unsent } from "../../src/stream/unsent.ts";

/** A client that has taken nothing unless the test says so. */
function createClient() {
  const client = {
    handed: 0,
    taken: 0,
    isCut: false,
    get unsent() {
      return client.handed - client.taken;
    },
    cut() {
      client.isCut = true;
    },
  };
  return client satisfies Holder;
}

type Client = ReturnType<typeof createClient>;

function hand(unsent: Unsent, client: Client, ...parts: Buffer[]): void {
  const from = client.handed;
  for (const part of parts) client.handed += part.length;
  unsent.hold(client, parts, from);
}

describe("the bytes that wait for clients", () => {
  it("count once however many wait for them, until the last has taken them", () => {
    const unsent = new Unsent(1_000);
    const clients = [createClient(), createClient(), createClient()];
    const shared = Buffer.alloc(100);
    for (const client of clients) hand(unsent, client, shared);
    expect(unsent.total).toBe(100);
    for (const [index, client] of clients.entries()) {
      client.taken = 100;
      unsent.sweep();
      expect(unsent.total).toBe(index === clients.length - 1 ? 0 : 100);
    }
  });

  it("are those of parts that were not taken whole", () => {
    const unsent = new Unsent(1_000);
    const client = createClient();
    hand(unsent, client, Buffer.alloc(100), Buffer.alloc(50));
    client.taken = 99;
    unsent.sweep();
    expect(unsent.total).toBe(150);
    client.taken = 100;
    unsent.sweep();
    expect(unsent.total).toBe(50);
    unsent.release(client);
    expect(unsent.total).toBe(0);
  });

  it("above the limit cost those who hold the most, and no more of them than must be", () => {
    const unsent = new Unsent(1_000, () => 0);
    const [small, large, larger] = [createClient(), createClient(), createClient()];
    hand(unsent, small, Buffer.alloc(100));
    hand(unsent, large, Buffer.alloc(400));
    hand(unsent, larger, Buffer.alloc(450));
    expect([small.isCut, large.isCut, larger.isCut]).toEqual([false, false, false]);
    hand(unsent, small, Buffer.alloc(60));
    expect([small.isCut, large.isCut, larger.isCut]).toEqual([false, false, true]);
    expect(unsent.total).toBe(560);
  });

  it("cost those who have not moved for long, before one who takes more at once", () => {
    let now = 0;
    const unsent = new Unsent(1_000, () => now);
    const [idle, other, fast] = [createClient(), createClient(), createClient()];
    hand(unsent, idle, Buffer.alloc(300));
    hand(unsent, other, Buffer.alloc(250));
    now = 5_000;
    hand(unsent, fast, Buffer.alloc(600));
    expect([idle.isCut, other.isCut, fast.isCut]).toEqual([true, false, false]);
    // Whoever takes a byte now and then has still not taken what he was given first.
    other.taken = 1;
    now = 6_000;
    hand(unsent, createClient(), Buffer.alloc(200));
    expect([other.isCut, fast.isCut]).toEqual([true, false]);
  });

  it("that were taken meanwhile cost nobody anything", () => {
    const unsent = new Unsent(100);
    const client = createClient();
    for (let round = 0; round < 50; round += 1) {
      hand(unsent, client, Buffer.alloc(90));
      client.taken = client.handed;
    }
    expect(client.isCut).toBe(false);
  });

  it("are never more than the limit, and nothing when everybody has gone", () => {
    const parts = Array.from({ length: 8 }, (_, index) => Buffer.alloc(1 + index * 17));
    const steps = fc.array(
      fc.oneof(
        fc.record({ hand: fc.nat(3), part: fc.nat(parts.length - 1) }),
        fc.record({ take: fc.nat(3), bytes: fc.nat(200) }),
        fc.record({ leave: fc.nat(3) }),
        fc.constant("sweep" as const),
      ),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(steps, (plan) => {
        const unsent = new Unsent(300);
        const clients = Array.from({ length: 4 }, createClient);
        for (const step of plan) {
          if (step === "sweep") unsent.sweep();
          else if ("hand" in step) {
            const client = clients[step.hand] as Client;
            if (!client.isCut) hand(unsent, client, parts[step.part] as Buffer);
          } else if ("take" in step) {
            const client = clients[step.take] as Client;
            client.taken = Math.min(client.handed, client.taken + step.bytes);
          } else {
            unsent.release(clients[step.leave] as Client);
            clients[step.leave] = createClient();
          }
          expect(unsent.total).toBeLessThanOrEqual(300);
        }
        for (const client of clients) unsent.release(client);
        expect(unsent.total).toBe(0);
      }),
    );
  });
});
