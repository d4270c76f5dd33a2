// The same small program as examples/hello.c. Arguments: MODEL PROMPT.

import { Model } from "../../bindings/node/dist/index.js"; // in a project of your own: from "dgemma"

const [path, prompt] = process.argv.slice(2);
try {
  const model = await Model.load(path);
  const context = await model.createContext();
  for await (const text of context.generate(prompt)) process.stdout.write(text);
  process.stdout.write("\n");
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
