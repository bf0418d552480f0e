// Builds the page into dist/: index.html, assets/*, player.js, icon.svg.
//
// Names in assets/ carry a content hash, because the server lets them be cached for ever; what keeps its name lies
// beside index.html. player.js is a classic script: other sites embed it, and a module would need CORS for that.
// Nothing is inlined: the page must run under `default-src 'self'`.
import { build, context } from "esbuild";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");

const shared = {
  absWorkingDir: root,
  bundle: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  loader: { ".shadow.css": "text" },
  logLevel: "warning",
  minify: true,
  outdir: join(dist, "assets"),
};

const writeIndex = {
  name: "index",
  setup(pluginBuild) {
    pluginBuild.onEnd(async (result) => {
      if (!result.metafile) return;
      const names = Object.keys(result.metafile.outputs).map((path) => basename(path));
      const named = (ending) => {
        const name = names.find((candidate) => candidate.startsWith("main-") && candidate.endsWith(ending));
        if (name === undefined) throw new Error(`the build made no main-*${ending}`);
        return name;
      };
      const template = await readFile(join(root, "src/index.html"), "utf8");
      const page = template.replace("main.css", named(".css")).replace("main.js", named(".js"));
      await writeFile(join(dist, "index.html"), page);
      await copyFile(join(root, "src/icon.svg"), join(dist, "icon.svg"));
    });
  },
};

const page = {
  ...shared,
  entryPoints: [
    { in: "src/main.ts", out: "main" },
    { in: "src/page.css", out: "main" },
  ],
  entryNames: "[name]-[hash]",
  metafile: true,
  plugins: [writeIndex],
};
const player = { ...shared, entryPoints: [{ in: "src/player.ts", out: "player" }], format: "iife", outdir: dist };

await rm(dist, { recursive: true, force: true });
await mkdir(join(dist, "assets"), { recursive: true });
if (process.argv.includes("--watch")) {
  for (const options of [page, player]) await (await context(options)).watch();
} else {
  await Promise.all([build(page), build(player)]);
}
