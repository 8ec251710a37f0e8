import type { Description, Media, Operation, Parameter, Schema } from "./description.ts";

/** One request of the description, and what it says of the answer. */
export type Trial = {
  readonly operation: Operation;
  /** What sets it apart from the operation's other requests. */
  readonly name: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly status: number;
  readonly mediaType: string;
  readonly schema: Schema;
  /** The answer that the description shows for this very request, if it does. */
  readonly shown: unknown;
};

/**
 * Every request that the description has examples for: each body, for each kind of answer, with
 * the required parameters alone and with each of the others.
 */
export function trialsOf({ operations }: Description): Trial[] {
  return operations.flatMap((operation) => {
    const bodies = Object.entries(
      operation.requestBody?.content["application/json"]?.examples ?? {},
    );
    const [status, answer] = successOf(operation);
    return contentOf(answer).flatMap(([mediaType, media]) => {
      const first = bodies.length > 0 ? bodies : [["", undefined] as const];
      const plain = first.map(([name, body]) =>
        toTrial(operation, { status, mediaType, media, bodyName: name, body: body?.value }),
      );
      const [bodyName, body] = first[0] ?? ["", undefined];
      const others = operation.parameters
        .filter(({ required, example }) => !required && example !== undefined)
        .map((parameter) =>
          toTrial(operation, { status, mediaType, media, bodyName, body: body?.value, parameter }),
        );
      return [...plain, ...others];
    });
  });
}

/** What an answer may be; one without content is nothing. */
function contentOf({ content = NOTHING }: Operation["responses"][string]): [string, Media][] {
  return Object.entries(content);
}

const NOTHING: Readonly<Record<string, Media>> = { "": { schema: {}, examples: {} } };

/** The answer of an operation that goes well, and its status. */
function successOf({ operationId, responses }: Operation) {
  const goods = Object.entries(responses).filter(([each]) => /^2/.test(each));
  const [status, answer] = goods.find(([, { content }]) => content) ?? goods[0] ?? [];
  if (!status || !answer) throw new Error(`${operationId} never goes well`);
  return [Number(status), answer] as const;
}

type Choice = {
  readonly status: number;
  readonly mediaType: string;
  readonly media: Media;
  readonly bodyName: string;
  readonly body: unknown;
  readonly parameter?: Parameter;
};

function toTrial(operation: Operation, choice: Choice): Trial {
  const { status, mediaType, media, bodyName, body, parameter } = choice;
  const isPoll = mediaType === "application/json";
  const sent = operation.parameters.filter(
    // A poll that has nothing to say yet says so at once and not in 25 s.
    (each) => each.required || each === parameter || (isPoll && each.name === "wait"),
  );
  const values = (place: Parameter["in"]) =>
    sent
      .filter((each) => each.in === place)
      .map((each): [string, string] => [each.name, String(each.example)]);
  const path = values("path").reduce(
    (text, [name, value]) => text.replace(`{${name}}`, value),
    operation.path,
  );
  const query = new URLSearchParams(values("query")).toString();
  const examples = Object.entries(media.examples);
  const shown = bodyName === "" ? examples[0] : examples.find(([name]) => name === bodyName);
  return {
    operation,
    name: [operation.operationId, mediaType, bodyName, parameter?.name].filter(Boolean).join(" "),
    url: query ? `${path}?${query}` : path,
    headers: { accept: mediaType || "*/*", ...Object.fromEntries(values("header")) },
    body,
    status,
    mediaType,
    schema: media.schema,
    shown: parameter ? undefined : shown?.[1].value,
  };
}
