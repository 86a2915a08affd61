import { join } from "node:path";
import { testUnless } from "../skip.ts";
import { fileDigest, missing, program, sameWithAndWithout, workDirectory } from "./preload.ts";

testUnless(
  "LD_PRELOAD: g++ compiles and links a template-heavy program, which then runs",
  missing("g++"),
  async () => {
    const source = join(workDirectory, "templates.cpp");
    await sameWithAndWithout(async (side) => {
      const compiled = await side.run(
        program("g++"),
        ["-std=c++20", "-O2", "-c", "-o", "templates.o", source],
        { programs: ["g++", "cc1plus", "as"] },
      );
      const linked = await side.run(
        program("g++"),
        ["-pthread", "-o", "templates", "templates.o"],
        {
          programs: ["g++", "collect2"],
        },
      );
      const ran = await side.run(join(side.directory, "templates"), []);
      const object = await fileDigest(join(side.directory, "templates.o"));
      const executable = await fileDigest(join(side.directory, "templates"));
      return { compiled, linked, ran, object, executable };
    });
  },
);

testUnless("LD_PRELOAD: gcc compiles C with link-time optimisation", missing("gcc"), async () => {
  await sameWithAndWithout(async (side) => {
    const path = join(side.directory, "table.c");
    await Deno.writeTextFile(path, generatedC());
    const compiled = await side.run(
      program("gcc"),
      ["-O2", "-flto=2", "-g", "-o", "table", "table.c"],
      { programs: ["gcc", "cc1", "as", "collect2", "lto1"] },
    );
    const ran = await side.run(join(side.directory, "table"), []);
    return { compiled, ran, executable: await fileDigest(join(side.directory, "table")) };
  });
});

/** Many small functions that call one another, a large switch and large tables. */
function generatedC(): string {
  const count = 600;
  let functions = "";
  let cases = "";
  for (let i = 0; i < count; i++) {
    const callee = i === 0 ? "x" : `f${i >> 1}(x >> 1)`;
    functions += `static unsigned f${i}(unsigned x) { return (x * ${i * 7919 + 1}u ^ ${callee}) + ${
      i % 13
    }u; }\n`;
    cases += `    case ${i}: total += f${i}(i) ^ table[${(i * 31) % count}]; break;\n`;
  }
  const table = Array.from({ length: count }, (_, i) => `${(i * i * 2654435761) % 65521}u`);
  return `#include <stdio.h>
static const unsigned table[] = { ${table.join(", ")} };
${functions}
int main(void) {
  unsigned total = 0;
  for (unsigned i = 0; i < 100000; i++) {
    switch (i % ${count}) {
${cases}    }
  }
  printf("%u\\n", total);
  return 0;
}
`;
}
