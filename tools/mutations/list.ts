import { normalize } from "node:path";
import { OF_THE_CLIENT } from "./client.ts";
import { OF_THE_FUNCTIONS } from "./functions.ts";
import { OF_THE_FIT, OF_THE_INSTALLER } from "./install.ts";
import type { Mutation, Row } from "./mutation.ts";
import { OF_THE_SCHEMA } from "./schema.ts";
import { OF_THE_STACK } from "./stack.ts";

const rows = (
  folder: string,
  ending: string,
  tests: string,
  of: Record<string, Row[]>,
): Mutation[] =>
  Object.entries(of).flatMap(([name, rows]) =>
    rows.map(([what, from, to, test, only]) => ({
      what,
      file: `${folder}/${name}.${ending}`,
      from,
      to,
      test: normalize(`${tests}/${test}`),
      ...(only === undefined ? {} : { only }),
    }))
  );

/** Every way to break Holdfast that the tests have to notice. */
export const MUTATIONS: readonly Mutation[] = [
  ...rows("supabase/schemas", "sql", "supabase/tests", OF_THE_SCHEMA),
  ...rows("supabase/functions/_shared", "ts", "supabase/tests", OF_THE_FUNCTIONS),
  ...rows("local", "ts", "local/tests", OF_THE_STACK),
  ...rows("supabase/schemas", "sql", "supabase/tests", OF_THE_FIT),
  ...rows("install", "ts", "install/tests", OF_THE_INSTALLER),
  ...rows("client", "ts", "client", OF_THE_CLIENT),
];
