import { z } from "zod";

// The rules of the request fields, one place each. PostgreSQL checks them again, for callers of the RPCs; here they
// are checked so that every broken rule is reported at once. A field with a default is left out where it is not
// sent: the default is PostgreSQL's to give.

const must = (rule: string) => ({
  error: (issue: { input?: unknown }) => issue.input === undefined ? "is required" : `must ${rule}`,
});
// PostgreSQL counts characters, JavaScript UTF-16 units
const characters = (text: string) => [...text].length;

/** `video_id`: any UUID that PostgreSQL takes, of whatever version. */
export const videoId = z.guid(must("be a UUID"));

/** `database_name` of a video. */
export const databaseName = z.string(must("be a string")).regex(
  /^[a-z][a-z0-9_-]{0,62}$/,
  "must match ^[a-z][a-z0-9_-]{0,62}$",
);

/** `lock_id`: the caller's own name for one acquisition. */
export const lockId = z.guid(must("be a UUID"));

/** `lock_holder_user_id`: a user's id, or the name that a worker gives itself. */
export const lockHolderUserId = z.string(must("be a string"))
  .refine((text) => text !== "" && characters(text) <= 255, "must have 1 to 255 characters")
  .refine(
    (text) => text.isWellFormed() && !text.includes("\0"),
    "must not contain NUL or half of a surrogate pair",
  );

/** `ttl_seconds`: length of a lease, in seconds. */
export const ttlSeconds = z.int(must("be an integer from 1 to 3600"))
  .min(1, must("be an integer from 1 to 3600"))
  .max(3600, must("be an integer from 1 to 3600"));

/** Any of the flags. */
export const flag = z.boolean(must("be true or false"));
