const SCHEMAS = new URL("../../schemas/", import.meta.url);

/** What supabase/schemas creates in the schema `public`, by name. All else there is the project's own. */
export const OWN_IN_PUBLIC: readonly string[] = Array.from(
  Deno.readDirSync(SCHEMAS),
  ({ name }) => name,
).flatMap((name) =>
  [
    ...Deno.readTextFileSync(new URL(name, SCHEMAS))
      .matchAll(/^ *create (?:table|view|function|domain|type) (?:if not exists )?public\.(\w+)/gm),
  ].map(([, object]) => object!)
);
