import type { Client, Connection } from "pg";

/** What node-postgres's connection can do beside what its types say. */
type CopyConnection = Connection & {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  sync(): void;
};

/**
 * Copies lines of PostgreSQL's text format into a table, and gives back how many there were.
 * @param target a table with its columns: `schema.table (a, b)`
 */
export function copyRows(session: Client, target: string, lines: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let copied = 0;
    session.query({
      submit: (connection: Connection) => {
        (connection as CopyConnection).query(`copy ${target} from stdin`);
      },
      handleCopyInResponse: (connection: CopyConnection) => {
        connection.sendCopyFromChunk(Buffer.from(lines));
        connection.endCopyFrom();
      },
      handleCommandComplete: ({ text }: { text: string }) => {
        copied = Number(text.split(" ")[1]);
      },
      handleReadyForQuery: () => resolve(copied),
      handleError: reject,
    });
  });
}
