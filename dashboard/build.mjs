// Build the page into monitoring/static: one module, one style sheet, both named by their content, and the licences of what is inside.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "monitoring", "static");

async function emptyTarget() {
  await mkdir(target, { recursive: true });
  for (const name of await readdir(target)) await rm(join(target, name));
}

async function bundle() {
  const result = await build({
    entryPoints: [join(here, "src", "app.jsx")],
    outdir: target,
    entryNames: "[name].[hash]",
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    metafile: true,
  });
  return result.metafile;
}

async function writePage(names) {
  let page = await readFile(join(here, "src", "index.html"), "utf8");
  for (const name of names) page = page.replace(`app${name.slice(name.lastIndexOf("."))}`, name);
  await writeFile(join(target, "index.html"), page);
}

async function writeLicences(inputs) {
  const packages = new Set(inputs.map((path) => path.match(/node_modules\/([^/]+)\//)?.[1]).filter(Boolean));
  const texts = [];
  for (const name of [...packages].sort()) {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    texts.push(`${name} ${version} (${license})\n\n${await readFile(join(folder, "LICENSE"), "utf8")}`);
  }
  await writeFile(join(target, "LICENSES.txt"), texts.join(`\n${"-".repeat(80)}\n\n`));
}

await emptyTarget();
const { inputs, outputs } = await bundle();
await writePage(Object.keys(outputs).map((path) => basename(path)));
await writeLicences(Object.keys(inputs));
