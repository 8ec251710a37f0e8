/** What the reference begins with, in CommonMark. */
export const INTRODUCTION = `Job status, from commit to browser. Applications run long jobs; whoever does the work writes the job's status, over HTTP or in plain SQL, and everybody who may see the job sees the change at once.

**Ids and times.** Ids are UUIDs, times are ISO 8601 in UTC.

**Versions.** Each change of a job makes its next version: 1, 2, 3, ... A stream shows every version once, ascending, and its last id is where to go on.

**Statuses.** \`pending\`, \`queued\`, \`processing\`, then one of \`completed\`, \`failed\`, \`cancelled\`, \`timeout\`. Steps may be skipped forwards. What has ended stays so, unless it is retried. Progress goes from 0 to 100 and never back within an attempt: a late, lower report changes nothing.

**Who may what.** A token's \`sub\` is the owner. Without scopes a caller sees, cancels and retries its own jobs and may watch them. The scopes: \`jobs:create\` (for oneself), \`jobs:write\` (a worker or backend: any job, for any owner), \`jobs:read\` (any job), \`credits:grant\`, \`stats:read\`. What belongs to others looks as if it were not there: 404.

**Errors** are \`application/problem+json\` with a stable \`code\`. Where coming back helps there is a \`Retry-After\`.

**Every path** answers \`OPTIONS\`, and \`HEAD\` where it answers \`GET\`.`;
