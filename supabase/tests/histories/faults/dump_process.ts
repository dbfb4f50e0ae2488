// Prints a dump of the database at the URL in its first argument: Holdfast's schemas and the application's, and the users.
import { dump } from "../../../../tools/pg_dump.ts";

const [url] = Deno.args as [string];
// the users first: memberships name them
const users = await dump(url, ["--inserts", "--data-only", "--table=auth.users"]);
const rest = await dump(url, ["--inserts", "--schema=public", "--schema=holdfast"]);
await new Response(`${users}\n${rest}`).body!.pipeTo(Deno.stdout.writable, { preventClose: true });
Deno.exit(0);
