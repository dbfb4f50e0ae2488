import { confirm, isCancel, select, text } from "@clack/prompts";
import { Refusal } from "./refusal.ts";

/**
 * Asks where the project keeps who belongs to which tenant.
 *
 * @returns A query; `undefined` for the table `tenant_members`.
 * @throws {Refusal} When the user gives up.
 */
export async function askMembers(): Promise<string | undefined> {
  const place = await select({
    message: "Where does your project keep which user belongs to which tenant?",
    options: [
      {
        value: "table",
        label: "In a table tenant_members (tenant_id, user_id, role)",
        hint: "made where there is none",
      },
      { value: "query", label: "In tables of its own", hint: "you are asked for a query" },
    ],
  });
  if (isCancel(place)) throw new Refusal("You gave up.");
  if (place === "table") return undefined;
  const query = await text({
    message:
      "A query for tenant_id (uuid), user_id (uuid) and role (text; 'admin' may release by force):",
    placeholder: "select team_id as tenant_id, person_id as user_id, role from public.team_members",
    validate: (value) => value?.trim() ? undefined : "It is needed.",
  });
  if (isCancel(query)) throw new Refusal("You gave up.");
  return query;
}

/**
 * Asks whether to go on.
 *
 * @param title What is to be done.
 * @returns Whether the user says yes.
 */
export async function askConsent(title: string): Promise<boolean> {
  const answer = await confirm({ message: `${title}?` });
  return answer === true;
}
