// Parses the AsyncAPI documents that are named, and prints a JSON object: for each file its diagnostics of level error (0) and warning (1).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, ...names] = process.argv.slice(2);
const { Parser } = createRequire(join(modules, "package.json"))("@asyncapi/parser");
const parser = new Parser();
const found = {};
for (const name of names) {
  const { document, diagnostics } = await parser.parse(readFileSync(name, "utf8"));
  const faults = diagnostics.filter((each) => each.severity < 2);
  const texts = faults.map((each) => `${each.code} ${each.path.join("/")}: ${each.message}`);
  found[name] = document || texts.length ? texts : ["no document"];
}
console.log(JSON.stringify(found));
