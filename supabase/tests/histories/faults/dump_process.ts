// Prints a dump of the database at the URL in its first argument: Holdfast's schemas and the application's, and the users.
import { dump } from "../../../../local/tests/support/pg_dump.ts";

const [url] = Deno.args as [string];
const whole = await dump(url, ["--inserts", "--schema=public", "--schema=holdfast"]);
const users = await dump(url, ["--inserts", "--data-only", "--table=auth.users"]);
await new Response(`${whole}\n${users}`).body!.pipeTo(Deno.stdout.writable, { preventClose: true });
Deno.exit(0);
