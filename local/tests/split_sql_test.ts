import { assertEquals } from "@std/assert";
import { splitSql } from "../postgres/split_sql.ts";

Deno.test("splitSql knows every place where a semicolon is none", () => {
  const statements = [
    `select 'a;b', e'\\';', "c;d", $$e;f$$, $x$ $$;$$ $x$`,
    "select 1 /* ; */ -- ;\n + 1",
    "-- a comment; it belongs to what follows\nselect a$b from t",
    "create function f() returns int begin atomic select case when true then 1 end; select 2; end",
  ];
  assertEquals(splitSql(statements.join(";\n") + ";\n-- the end;\n"), statements);
});
