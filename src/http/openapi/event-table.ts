import { closeReasonSchema } from "../../protocol/control-event.ts";

type EventText = { readonly id: string; readonly data: string; readonly says: string };

const OWN = "yes";
const AGAIN = "the one before";

const REASONS = closeReasonSchema.options.map((reason) => `\`${reason}\``).join(", ");

/** What a stream may say. */
const EVENTS: Readonly<Record<string, EventText>> = {
  status: { id: OWN, data: "`StatusEvent`", says: "a version of a job" },
  batch: { id: OWN, data: "`BatchEvent`", says: "the newest state of a batch" },
  "its name": {
    id: OWN,
    data: "`CustomEvent`",
    says: "an event of the producer's own (`log`, `preview`, ...), which is a version of its job as a `status` is",
  },
  reset: {
    id: OWN,
    data: "the state, or `Reset` over many jobs",
    says: "your last id means nothing here (malformed, of the future, of another database, or too much was missed): this is the present state, or the states follow; start over from it",
  },
  deleted: {
    id: OWN,
    data: "`Deleted`, or `DeletedBatch`",
    says: "it is no more, also among the events of a long poll over many jobs; a stream of it alone ends, and its next request is 404",
  },
  ready: {
    id: OWN,
    data: "`Ready`",
    says: "over many jobs, when there is nothing to tell yet: the place to come back to",
  },
  ping: {
    id: AGAIN,
    data: "`Ping`",
    says: "the heartbeat, every 8 s, and at once when there is nothing else to say at first; a real event, because `EventSource` does not show comments",
  },
  close: {
    id: AGAIN,
    data: "`Close`",
    says: `the server ends the stream before its job does; its \`reason\` is one of ${REASONS}`,
  },
};

/** The same as a table in Markdown, for docs/protocol.md and for the description of the API. */
export const EVENT_TABLE: readonly string[] = [
  "| `event:` | id | data | says |",
  "| --- | --- | --- | --- |",
  ...Object.entries(EVENTS).map(
    ([name, { id, data, says }]) =>
      `| ${name.includes(" ") ? name : `\`${name}\``} | ${id} | ${data} | ${says} |`,
  ),
];
