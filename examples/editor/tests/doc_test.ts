import { assertEquals } from "@std/assert";
import { timecode } from "../src/databases.ts";
import { changedKeys, compare, isSame, withChanges } from "../src/doc.ts";
import { endedHow, listed, ordinal, span } from "../src/words.ts";

Deno.test("what I changed is found, and what somebody else changed as well", () => {
  const base = { a: "1", b: "1", c: "1", d: "1" };
  const mine = { a: "2", b: "2", c: "1", e: "new" }; // d removed
  const now = { a: "1", b: "3", c: "9", d: "4" };
  const changes = compare(base, mine, now);
  assertEquals(changes.map(({ key, isConflict }) => [key, isConflict]), [
    ["a", false],
    ["b", true],
    ["d", true],
    ["e", false],
  ]);
  assertEquals(withChanges(now, changes), { a: "2", b: "2", c: "9", e: "new" });
  assertEquals(withChanges(now, changes.slice(0, 1)), { ...now, a: "2" });
});

Deno.test("what is there already is no change of mine any more", () => {
  assertEquals(compare({ a: "1" }, { a: "2" }, { a: "2", b: "1" }), []);
  assertEquals(isSame({ a: "1" }, { a: "1" }), true);
  assertEquals(changedKeys({ a: "1" }, {}), ["a"]);
});

Deno.test("words and numbers are those of a person", () => {
  assertEquals([1, 2, 3, 4, 11, 12, 21, 112].map(ordinal), [
    "1st",
    "2nd",
    "3rd",
    "4th",
    "11th",
    "12th",
    "21st",
    "112th",
  ]);
  assertEquals([0, 1, 59.4, 60, 150, 3600].map(span), [
    "0 seconds",
    "1 second",
    "59 seconds",
    "1 minute",
    "3 minutes",
    "1 hour",
  ]);
  assertEquals([["Ben"], ["Ben", "Cleo"], ["Anna", "Ben", "Cleo"]].map(listed), [
    "Ben",
    "Ben and Cleo",
    "Anna, Ben and Cleo",
  ]);
  assertEquals(["0", "4.5", "75", ""].map(timecode), ["0:00.0", "0:04.5", "1:15.0", "0:00.0"]);
  assertEquals(endedHow("force_released", "service_role"), "ended by the system");
  assertEquals(endedHow("force_released", "Ben"), "ended by Ben");
});
