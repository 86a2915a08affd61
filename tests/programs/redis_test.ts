import assert from "node:assert/strict";
import { testUnless } from "../skip.ts";
import { missing, program, sameWithAndWithout, type Side, type Started } from "./preload.ts";

testUnless(
  "LD_PRELOAD: redis-server is filled, driven by redis-benchmark, saved and loaded again",
  missing("redis-server", "redis-benchmark", "redis-cli"),
  async () => {
    const load = generatedCommands();
    await sameWithAndWithout(async (side) => {
      const server = await startServer(side);
      const ask = (...args: string[]): Promise<string> => askServer(side, args);

      const before = await usedMemory(ask);
      const piped = await side.run(program("redis-cli"), [...socket, "--pipe"], { stdin: load });
      assert.match(piped.stdout, /errors: 0, replies: \d+/);
      // Redis adds up malloc_usable_size of what it allocates and frees.
      const filled = await usedMemory(ask);
      assert.ok(
        filled > before + 2_000_000,
        `${filled} bytes in use once filled, ${before} before`,
      );

      const benchmark = await runBenchmark(side);
      await ask(
        "UNLINK",
        "key:__rand_int__",
        "counter:__rand_int__",
        "mylist",
        "myset",
        "myhash",
        "myzset",
      );
      const digest = await ask("DEBUG", "DIGEST");
      assert.match(digest, /^[0-9a-f]{40}\n$/);
      assert.notEqual(digest, `${"0".repeat(40)}\n`);

      // The child of BGSAVE writes the snapshot while the parent changes what it shares with it.
      assert.equal(await ask("BGSAVE"), "Background saving started\n");
      const script =
        "for i = 1, 20000 do redis.call('SETRANGE', 'scratch:' .. i % 3000, i % 400, i) end";
      const changed = await ask("EVAL", `${script} return redis.call('DBSIZE')`, "0");
      await saved(ask);
      const unlinkScratch = "for i = 0, 2999 do redis.call('UNLINK', 'scratch:' .. i) end";
      await ask("EVAL", unlinkScratch, "0");
      assert.equal(await ask("DEBUG", "DIGEST"), digest);
      assert.equal(await ask("DEBUG", "RELOAD"), "OK\n");
      assert.equal(await ask("DEBUG", "DIGEST"), digest);
      assert.equal(await ask("MEMORY", "PURGE"), "OK\n");
      await stopServer(server, ask, "SAVE");

      const again = await startServer(side);
      assert.equal(await ask("DEBUG", "DIGEST"), digest);
      const kinds = await Promise.all(
        ["text:77", "list:7", "hash:7", "set:7", "sorted:7"].map((key) => ask("TYPE", key)),
      );
      const values = await Promise.all([
        ask("GET", "text:77"),
        ask("LRANGE", "list:7", "0", "5"),
        ask("ZRANGEBYSCORE", "sorted:7", "100", "400", "LIMIT", "0", "5"),
        ask("DBSIZE"),
      ]);
      assert.equal(await ask("FLUSHALL", "SYNC"), "OK\n");
      const emptied = await usedMemory(ask);
      assert.ok(
        emptied < before + 1_000_000,
        `${emptied} bytes in use when empty, ${before} at first`,
      );
      await stopServer(again, ask, "NOSAVE");
      return { benchmark, digest, changed, kinds, values };
    });
  },
);

/** A socket in the working directory: no port can be taken, and the path is never too long for a socket. */
const socket = ["-s", "redis.sock"];

async function startServer(side: Side): Promise<Started> {
  const args = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--daemonize", "no"];
  args.push("--io-threads", "2", "--io-threads-do-reads", "yes");
  // From version 7 on, DEBUG is refused otherwise; before it, the option is unknown.
  const { stdout } = await side.run(program("redis-server"), ["--version"]);
  const version = Number(/v=(\d+)/.exec(stdout)?.[1]);
  assert.ok(version > 0, `no version in ${stdout}`);
  if (version >= 7) args.push("--enable-debug-command", "local");
  const server = side.start(program("redis-server"), args);
  await until(async () => {
    // Reports what the server wrote if it ended.
    if (!server.running()) await server.finish();
    const entries = await Array.fromAsync(Deno.readDir(side.directory));
    return entries.some(({ name }) => name === "redis.sock");
  }, "redis-server opened no socket");
  assert.equal(await askServer(side, ["PING"]), "PONG\n");
  return server;
}

async function stopServer(
  server: Started,
  ask: (...args: string[]) => Promise<string>,
  mode: "SAVE" | "NOSAVE",
): Promise<void> {
  await ask("SHUTDOWN", mode);
  const { stdout } = await server.finish();
  assert.match(stdout, /Redis is now ready to exit, bye bye/);
}

async function askServer(side: Side, args: string[]): Promise<string> {
  const { stdout, stderr } = await side.run(program("redis-cli"), [...socket, ...args]);
  assert.equal(stderr, "");
  return stdout;
}

async function usedMemory(ask: (...args: string[]) => Promise<string>): Promise<number> {
  const used = /^used_memory:(\d+)/m.exec(await ask("INFO", "memory"))?.[1];
  assert.ok(used !== undefined, "INFO memory names no used_memory");
  return Number(used);
}

async function saved(ask: (...args: string[]) => Promise<string>): Promise<void> {
  let info = "";
  await until(async () => {
    info = await ask("INFO", "persistence");
    return /^rdb_bgsave_in_progress:0/m.test(info);
  }, "BGSAVE did not end");
  assert.match(info, /^rdb_last_bgsave_status:ok/m);
}

async function until(condition: () => Promise<boolean>, complaint: string): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(complaint);
}

/** The names of the tests that redis-benchmark reports: the rates beside them differ from run to run. */
async function runBenchmark(side: Side): Promise<string[]> {
  const all = "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset";
  const names: string[] = [];
  for (const chosen of [["-t", all], ["-t", "set,get", "--threads", "2"]]) {
    const size = ["-n", "2000", "-c", "20", "-P", "10", "-d", "300", "--csv"];
    const { stdout } = await side.run(program("redis-benchmark"), [...socket, ...size, ...chosen]);
    for (const line of stdout.trim().split("\n")) names.push(line.split(",")[0] ?? "");
  }
  assert.ok(names.length > 14, names.join(", "));
  return names;
}

/** Commands in Redis's protocol: values of every type and many sizes, some replaced and some deleted. */
function generatedCommands(): Uint8Array {
  const parts: string[] = [];
  const command = (...words: (string | number)[]): void => {
    parts.push(`*${words.length}\r\n`);
    for (const word of words) parts.push(`$${String(word).length}\r\n${word}\r\n`);
  };
  for (let i = 0; i < 20_000; i++) {
    const mixed = (i * 2654435761) % 1_000_003;
    command("SET", `text:${i % 12_000}`, "v".repeat(mixed % 700) + i);
    if (i % 3 === 0) command("APPEND", `text:${mixed % 12_000}`, `+${mixed}`);
    if (i % 7 === 0) command("DEL", `text:${(mixed + 1) % 12_000}`);
    command("RPUSH", `list:${i % 40}`, `element ${mixed}`, "e".repeat(i % 90));
    command("HSET", `hash:${i % 60}`, `field ${mixed % 900}`, "h".repeat(mixed % 120) + i);
    command("SADD", `set:${i % 30}`, mixed % 5000, `member ${mixed}`);
    command("ZADD", `sorted:${i % 20}`, mixed % 1000, `member ${mixed % 4000}`);
    if (i % 500 === 0) command("SETRANGE", `bytes:${i}`, i * 3, "end");
  }
  return new TextEncoder().encode(parts.join(""));
}
