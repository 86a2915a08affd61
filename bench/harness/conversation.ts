/**
 * A native process that lives on: it is asked by a byte on its standard input, and answers each time by a
 * line of JSON. The end of its input is the end of its work.
 *
 * @module
 */
import { failed, type Outcome, parseLine, signalInWords } from "./driver.ts";

/** What a process answers. */
export type Line = Record<string, unknown>;

/** Talks with one process. It must be closed. */
export class Conversation {
  readonly #child: Deno.ChildProcess;
  readonly #stop: AbortSignal;
  readonly #lines: AsyncGenerator<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #stderr: Promise<string>;
  #inputOpen = true;

  /**
   * Takes a child over, all three of whose streams are pipes.
   *
   * @param stop Aborted when the user wants to end: the child is killed, and answers are "interrupted".
   */
  constructor(child: Deno.ChildProcess, stop: AbortSignal) {
    this.#child = child;
    this.#stop = stop;
    this.#lines = linesOf(child.stdout);
    this.#input = child.stdin.getWriter();
    this.#stderr = new Response(child.stderr).text();
    stop.addEventListener("abort", this.#kill);
  }

  /** Waits for the next line. */
  async answer(limitSeconds: number): Promise<Outcome<Line>> {
    if (this.#stop.aborted) return { kind: "interrupted" };
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#kill();
    }, limitSeconds * 1000);
    const { value, done } = await this.#lines.next();
    clearTimeout(timer);
    if (this.#stop.aborted) return { kind: "interrupted" };
    const line = done ? null : parseLine(value);
    if (line !== null && typeof line.error !== "string") return { kind: "value", value: line };
    // Whatever it is, it is the last that is heard of it.
    if (!done) this.#kill();
    const [status, stderr] = [await this.#child.status, await this.#stderr];
    // Ctrl-C reaches the whole process group: the child may die of it before we hear of it.
    if (this.#stop.aborted || status.signal === "SIGINT") return { kind: "interrupted" };
    if (late) return failed(`no answer within ${limitSeconds.toFixed(0)} s`, stderr);
    if (typeof line?.error === "string") return failed(line.error, stderr);
    if (!done) return failed("answered nothing that can be read", stderr);
    return status.signal === null
      ? failed(`ended with exit status ${status.code}`, stderr)
      : failed(signalInWords(status.signal), stderr);
  }

  /** Asks, and waits for the answer. */
  async ask(limitSeconds: number): Promise<Outcome<Line>> {
    try {
      await this.#input.write(new Uint8Array([0x0a]));
    } catch (error) {
      // It has ended: why, the answer tells.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    }
    return await this.answer(limitSeconds);
  }

  /** Tells that nothing more will be asked, and waits for the last line. */
  async conclude(limitSeconds: number): Promise<Outcome<Line>> {
    await this.#closeInput();
    return await this.answer(limitSeconds);
  }

  /** Kills the process, if it is still there, and waits until it has gone. */
  async close(): Promise<void> {
    this.#stop.removeEventListener("abort", this.#kill);
    this.#kill();
    await this.#closeInput();
    await this.#lines.return(undefined);
    await this.#stderr;
    await this.#child.status;
  }

  async #closeInput(): Promise<void> {
    if (!this.#inputOpen) return;
    this.#inputOpen = false;
    try {
      await this.#input.close();
    } catch (error) {
      // A write that found nobody has closed it.
      const gone = error instanceof Deno.errors.BrokenPipe || error instanceof TypeError;
      if (!gone) throw error;
    }
  }

  readonly #kill = (): void => {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      // It ended by itself between the two.
      if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
    }
  };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of stream) {
    rest += decoder.decode(piece, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
