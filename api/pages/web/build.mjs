// Bundles the scripts of the pages: minified, named by their content, with their digests in manifest.json.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const out = new URL("../built/", import.meta.url).pathname;
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const result = await build({
  entryPoints: { app: "src/app.js", charts: "src/charts.js" },
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome100", "firefox100", "safari15"],
  entryNames: "[name].[hash]",
  outdir: out,
  legalComments: "eof",
  metafile: true,
  write: true,
});

const manifest = {};
for (const [path, made] of Object.entries(result.metafile.outputs)) {
  if (!made.entryPoint) continue;
  const body = readFileSync(path);
  writeFileSync(`${path}.gz`, gzipSync(body, { level: 9 }));
  const digest = createHash("sha384").update(body).digest("base64");
  manifest[basename(made.entryPoint, ".js")] = { file: basename(path), integrity: `sha384-${digest}` };
}
writeFileSync(`${out}manifest.json`, JSON.stringify(manifest, null, 1) + "\n");
