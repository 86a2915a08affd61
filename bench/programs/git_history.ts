/**
 * A history to pack.
 *
 * @module
 */

/** A history for `git fast-import`: a main line whose files change a little in each commit, and a side line. */
export function generatedHistory(commits: number): string {
  const files = 40;
  const contents = Array.from(
    { length: files },
    (_, file) =>
      Array.from({ length: 150 }, (_, line) => `file ${file} line ${line} of the first version`),
  );
  const data = (text: string): string => `data ${text.length}\n${text}\n`;
  let stream = "";
  for (let i = 0; i < commits; i++) {
    const branch = i % 50 === 49 ? "side" : "main";
    stream += `commit refs/heads/${branch}\n`;
    stream += `author A U Thor <author@example.org> ${1700000000 + i * 60} +0000\n`;
    stream += `committer C O Mitter <committer@example.org> ${1700000000 + i * 60} +0100\n`;
    stream += data(`Change ${i}\n\nThe reason for change ${i}.`);
    if (branch === "side") {
      if (i === 49) stream += "from refs/heads/main\n";
      stream += `M 100644 inline side/${i}.txt\n` + data(`side ${i}\n`.repeat(i));
      continue;
    }
    for (let change = 0; change < 3; change++) {
      const file = (i * 7 + change * 13) % files;
      const lines = contents[file] ?? [];
      lines[(i * 31 + change) % lines.length] = `changed in ${i}, ${change}: ${
        (i * 2654435761) % 1000003
      }`;
      if (i % 10 === change) lines.push(`added in ${i}, line ${lines.length} `.repeat(1 + i % 3));
      const path = file % 5 === 0 ? `directory${file % 3}/file${file}.txt` : `file${file}.txt`;
      stream += `M 100644 inline ${path}\n` + data(lines.join("\n") + "\n");
    }
  }
  return stream + "done\n";
}
