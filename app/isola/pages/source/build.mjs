// Builds ../built from this folder and package-lock.json: the same input gives the same bytes.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const BUILT = '../built';
const licences = /^(licen[cs]e|copying|notice)(\.(md|txt|\w+))?$/i;

// GraphiQL's style embeds two fonts in base64, a third of its size. The page uses those of the system.
const withoutFonts = {
  name: 'without-fonts',
  setup(builder) {
    builder.onLoad({ filter: /graphiql\/dist\/style\.css$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replace(/@font-face\s*\{[^}]*\}/g, ''),
      loader: 'css',
    }));
  },
};

rmSync(BUILT, { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: { graphiql: 'graphiql.jsx', page: 'page.css' },
  outdir: BUILT,
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2022',
  jsx: 'automatic',
  charset: 'utf8',
  legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"' },
  plugins: [withoutFonts],
  metafile: true,
});

// What is bundled is distributed: each package's licence goes along.
const folders = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const inside = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (inside) folders.add(inside[1]);
}
const texts = [...folders].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((each) => licences.test(each));
  const text = file ? readFileSync(join(folder, file), 'utf8').trim() : `Licence: ${license}`;
  return `${name} ${version}\n\n${text}\n`;
});
writeFileSync(join(BUILT, 'LICENSES.txt'), texts.join(`\n${'-'.repeat(72)}\n\n`));

// A test compares this, and so notices sources that were changed and not built.
const sources = readdirSync('.').filter((name) => /\.(css|js|json|jsx|mjs)$/.test(name)).sort();
const digest = createHash('sha256');
for (const name of sources) digest.update(`${name}\0`).update(readFileSync(name)).update('\0');
writeFileSync(join(BUILT, 'sources.sha256'), `${digest.digest('hex')}\n`);
