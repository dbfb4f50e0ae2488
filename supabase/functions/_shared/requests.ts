import * as z from "zod/mini";
import {
  DATABASE_NAME,
  DATABASE_NAMES,
  HOLDER_CHARACTERS,
  MESSAGES,
  QUEUE_SECONDS,
  TTL_SECONDS,
} from "./rules.ts";

// PostgreSQL checks the same again, for callers of the RPCs; here it is checked so that every broken rule is reported at
// once. A field with a default is left out where it is not sent, or null: the default is PostgreSQL's to give.

const must = (message: string) => ({
  error: ({ input }: { input?: unknown }) => input == null ? MESSAGES.required : message,
});

/** Any UUID that PostgreSQL takes, of any version, in any case. */
const uuid = z.guid(must(MESSAGES.uuid));

const flag = z.boolean(must(MESSAGES.flag));

const integer = ({ min, max }: { min: number; max: number }, message: string) =>
  z.int(must(message)).check(z.minimum(min, message), z.maximum(max, message));

const ttlSeconds = integer(TTL_SECONDS, MESSAGES.ttlSeconds);

const databaseName = z.string(must(MESSAGES.databaseName))
  .check(z.regex(DATABASE_NAME, MESSAGES.databaseName));

const databaseNames = z.array(
  z.string(MESSAGES.databaseNames).check(z.regex(DATABASE_NAME, MESSAGES.databaseNames)),
  MESSAGES.databaseNames,
).check(z.refine(
  ({ length }) => DATABASE_NAMES.min <= length && length <= DATABASE_NAMES.max,
  MESSAGES.databaseNames,
)).check(z.refine((names) => new Set(names).size === names.length, MESSAGES.databaseNames));

const lockHolderUserId = z.string(must(MESSAGES.holder)).check(
  z.refine((text) => {
    const { length } = [...text]; // PostgreSQL counts characters, JavaScript UTF-16 units
    return HOLDER_CHARACTERS.min <= length && length <= HOLDER_CHARACTERS.max;
  }, MESSAGES.holder),
  z.refine((text) => text.isWellFormed() && !text.includes("\0"), MESSAGES.holderText),
);

/** A rule about several fields, which is judged beside the rules of each. */
const together = (
  path: string,
  error: string,
  holds: (given: (field: string) => boolean, fields: Record<string, unknown>) => boolean,
) =>
  z.refine<Record<string, unknown>>((fields) => holds((field) => fields[field] != null, fields), {
    path: [path],
    error,
    when: () => true,
  });

const key = {
  video_id: uuid,
  database_name: z.nullish(databaseName),
  database_names: z.nullish(databaseNames),
};
const someName = together(
  "database_name",
  MESSAGES.noName,
  (given) => given("database_name") || given("database_names"),
);
const oneKindOfName = together(
  "database_names",
  MESSAGES.twoNames,
  (given) => !(given("database_name") && given("database_names")),
);

/** What `lock-acquire` takes. */
export const acquireRequest = z.strictObject({
  ...key,
  lock_holder_user_id: z.nullish(lockHolderUserId),
  lock_id: z.nullish(uuid),
  ttl_seconds: z.nullish(ttlSeconds),
  take_over: z.nullish(flag),
  queue_seconds: z.nullish(integer(QUEUE_SECONDS, MESSAGES.queueSeconds)),
}).check(
  someName,
  oneKindOfName,
  together(
    "lock_id",
    MESSAGES.queueWithoutId,
    (given, { queue_seconds }) => given("lock_id") || !(Number(queue_seconds) > 0),
  ),
);

/** What `lock-renew` takes. */
export const renewRequest = z.strictObject({
  ...key,
  lock_id: uuid,
  ttl_seconds: z.nullish(ttlSeconds),
  active: z.nullish(flag),
}).check(someName, oneKindOfName);

/** What `lock-release` takes. */
export const releaseRequest = z.strictObject({
  ...key,
  lock_id: z.nullish(uuid),
  lock_holder_user_id: z.nullish(lockHolderUserId),
  force: z.nullish(flag),
}).check(
  someName,
  oneKindOfName,
  together(
    "lock_id",
    MESSAGES.nothingToRelease,
    (given, { force }) =>
      given("lock_id") || given("lock_holder_user_id") || given("force") && force !== false,
  ),
  together(
    "lock_holder_user_id",
    MESSAGES.holderNotAlone,
    (given, { force }) =>
      !given("lock_holder_user_id") || !(given("lock_id") || given("force") && force !== false),
  ),
);
