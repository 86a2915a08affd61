/**
 * The commands of this checkout, as `hak` and the deno tasks run them. This file only chooses: each
 * command is a module in `cli/`, and a task in `deno.json`, from where the list of commands comes.
 *
 * @module
 */
import { Exit, RunError, UsageError } from "./cli/errors.ts";
import config from "./deno.json" with { type: "json" };

/** What each module in `cli/` that is a command offers. */
interface Command {
  /** What `--help` prints. */
  usage: string;
  /** Runs the command and returns the exit status. */
  run(args: string[]): Promise<number>;
}

const tasks: Record<string, { description: string }> = config.tasks;

const helpWords = ["help", "--help", "-h"];

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined) return listCommands();
  if (helpWords.includes(name)) {
    return rest[0] === undefined ? listCommands() : await main([rest[0], "--help"]);
  }
  if (!Object.hasOwn(tasks, name)) {
    const known = Object.keys(tasks).join(", ");
    return fail("hak", `unknown command ${JSON.stringify(name)}: the commands are ${known}`, 2);
  }
  try {
    const command = await load(name);
    // What comes after "--" is for a program that the command runs.
    const end = rest.indexOf("--");
    const own = end < 0 ? rest : rest.slice(0, end);
    if (own.some((arg) => arg === "--help" || arg === "-h")) {
      console.log(command.usage);
      return 0;
    }
    return await command.run(rest);
  } catch (error) {
    if (error instanceof UsageError) return fail(`hak ${name}`, error.message, 2);
    if (error instanceof RunError) return fail(`hak ${name}`, error.message, 1);
    if (error instanceof Exit) return error.status;
    // What the system refused, such as a full disk behind standard output, is no defect to be traced.
    if (error instanceof Error && "code" in error && typeof error.code === "string") {
      return fail(`hak ${name}`, `the system refused: ${error.message}`, 1);
    }
    throw error;
  }
}

/**
 * Loads one command. Deno fetches at the start whatever an import that it can read names, so this one is
 * computed: a command that needs no npm package runs without a network.
 */
async function load(name: string): Promise<Command> {
  try {
    return await import(new URL(`./cli/${name.replaceAll("-", "_")}.ts`, import.meta.url).href);
  } catch (error) {
    if (!(error instanceof TypeError) || !/npm|sending request/.test(error.message)) throw error;
    const [reason] = error.message.split("\n");
    throw new RunError(
      `cannot get the npm packages it needs (${reason}): run it once with a network, or set NPM_CONFIG_REGISTRY`,
    );
  }
}

function listCommands(): number {
  console.log("usage: hak COMMAND [ARGUMENT…]     (hak COMMAND --help tells more)\n");
  for (const [name, { description }] of Object.entries(tasks)) {
    console.log(`  ${name.padEnd(10)} ${description}`);
  }
  return 0;
}

/** Says in one line what went wrong, and returns the exit status. */
function fail(who: string, what: string, status: number): number {
  console.error(`${who}: ${what.replaceAll(/\s*\n\s*/g, " ")}`);
  return status;
}

Deno.exit(await main(Deno.args));
