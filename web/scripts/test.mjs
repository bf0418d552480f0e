// Bundles test/*.test.ts and hands them to Node's own test runner (Node 20 cannot read TypeScript itself).
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = join(root, "node_modules/.cache/sightline-test");
const tests = (await readdir(join(root, "test"))).filter((name) => name.endsWith(".test.ts"));

await rm(out, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  bundle: true,
  entryPoints: tests.map((name) => `test/${name}`),
  format: "esm",
  logLevel: "warning",
  outExtension: { ".js": ".mjs" },
  outdir: out,
  platform: "node",
  sourcemap: "inline",
  target: "node20",
});
const files = tests.map((name) => join(out, name.replace(/\.ts$/, ".mjs")));
const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" });
process.exit(run.status ?? 1);
