/**
 * Output files that are whole or absent.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { whyNotWritable, writeWhole } from "../bench/harness/files.ts";
import { inFolder, namesIn } from "./verb_support.ts";

Deno.test("a file is written whole and replaced whole, with nothing beside it", () =>
  inFolder((folder) => {
    const path = join(folder, "result.json");
    assert.equal(whyNotWritable(path), null);
    assert.deepEqual(namesIn(folder), []);
    writeWhole(path, "first");
    const reader = Deno.openSync(path);
    writeWhole(path, "second, longer");
    // Who had the old file open still sees it: it was replaced, not written over.
    const seen = new Uint8Array(32);
    const length = reader.readSync(seen) ?? 0;
    reader.close();
    assert.equal(new TextDecoder().decode(seen.subarray(0, length)), "first");
    assert.equal(Deno.readTextFileSync(path), "second, longer");
    assert.deepEqual(namesIn(folder), ["result.json"]);
  }));

Deno.test("a write that fails leaves neither the file nor a part of it", () =>
  inFolder((folder) => {
    const long = join(folder, "x".repeat(300));
    assert.match(whyNotWritable(long) ?? "", /too long/);
    assert.throws(() => writeWhole(long, "text"));
    const directory = join(folder, "directory");
    Deno.mkdirSync(directory);
    assert.equal(whyNotWritable(directory), "it is a directory");
    assert.throws(() => writeWhole(directory, "text"));
    assert.deepEqual(namesIn(folder), ["directory"]);
  }));

Deno.test("a folder that is not there is told before anything is measured", () =>
  inFolder((folder) => {
    assert.equal(whyNotWritable(join(folder, "no", "result.json")), "its folder does not exist");
    Deno.writeTextFileSync(join(folder, "file"), "");
    assert.equal(whyNotWritable(join(folder, "file", "result.json")), "its folder is a file");
  }));

Deno.test("a link keeps pointing where it does", () =>
  inFolder((folder) => {
    const [target, link] = [join(folder, "target"), join(folder, "link")];
    Deno.writeTextFileSync(target, "old");
    Deno.symlinkSync(target, link);
    assert.equal(whyNotWritable(link), null);
    writeWhole(link, "new");
    assert(Deno.lstatSync(link).isSymlink);
    assert.equal(Deno.readTextFileSync(target), "new");
  }));

Deno.test("a device is written to, not replaced", () => {
  assert.equal(whyNotWritable("/dev/null"), null);
  writeWhole("/dev/null", "text");
  assert(Deno.statSync("/dev/null").isCharDevice);
});
