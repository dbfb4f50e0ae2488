// @ts-types="@types/pg"
import pg from "pg";

/**
 * Reads PostgreSQL's values as its own `to_json` writes them, which is what PostgREST sends: times in ISO 8601 with
 * all their digits, numbers as numbers, everything that JSON has no form for as text.
 */
export const jsonTypes: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    return PARSERS.get(oid) ?? (STANDARD.has(oid) ? pg.types.getTypeParser(oid, format) : String);
  },
};

type Parser = (text: string) => unknown;
const number: Parser = (text) => Number.isFinite(Number(text)) ? Number(text) : text;
const timestamp = (text: string) => text.replace(" ", "T");
const timestamptz = (text: string) => timestamp(text).replace(/([+-]\d\d)$/, "$1:00");
const list = (parse: Parser): Parser => (text) =>
  (TEXT_ARRAY(text) as (string | null)[]).map((item) => item === null ? null : parse(item));

const TEXT_ARRAY = pg.types.getTypeParser(1009 as number, "text") as Parser;

const PARSERS = new Map<number, Parser>([
  [20, number], // int8
  [700, number], // float4
  [701, number], // float8
  [1700, number], // numeric
  [1114, timestamp],
  [1184, timestamptz],
  [1016, list(number)],
  [1021, list(number)],
  [1022, list(number)],
  [1231, list(number)],
  [1115, list(timestamp)],
  [1185, list(timestamptz)],
  // arrays of name, char, text, bpchar, varchar, bytea, date, time, timetz, interval, uuid, inet, cidr
  ...[1003, 1002, 1009, 1014, 1015, 1001, 1182, 1183, 1270, 1187, 2951, 1041, 651].map(
    (oid) => [oid, TEXT_ARRAY] as const,
  ),
]);

/** Read well by the driver itself: bool, int2, int4, json, jsonb, and their arrays. */
const STANDARD = new Set([16, 21, 23, 114, 3802, 1000, 1005, 1007, 199, 3807]);
