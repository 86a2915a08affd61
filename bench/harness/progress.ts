/**
 * How far the measuring has got, on standard error: one line that rewrites itself, with the time left, on a
 * terminal; a line a round elsewhere.
 *
 * @module
 */
import { formatSeconds } from "./format.ts";

/** Shows how far the work has got. */
export interface Progress {
  /** Begins a round of the given name. */
  round(name: string, secondsLeft: number): void;
  /** Tells what is being done, how much of all is done (0 to 1) and how long the rest may take. */
  step(what: string, done: number, secondsLeft: number): void;
  /** Ends the display and frees the line it was on. */
  end(): void;
}

/** The display that suits standard error. */
export function startProgress(): Progress {
  return Deno.stderr.isTerminal() ? new LiveLine() : plainLines;
}

const barWidth = 24;
const eraseLine = "\r\x1b[2K";

class LiveLine implements Progress {
  #round = "";

  round(name: string): void {
    this.#round = name;
  }

  step(what: string, done: number, secondsLeft: number): void {
    const filled = Math.round(done * barWidth);
    const bar = "█".repeat(filled) + "░".repeat(barWidth - filled);
    const text = `${bar} ${Math.floor(done * 100)} %, ${
      formatSeconds(secondsLeft)
    } left. ${this.#round}: ${what}`;
    // A line that wraps could not be erased.
    this.#show(eraseLine + text.slice(0, Deno.consoleSize().columns - 1));
  }

  end(): void {
    this.#show(eraseLine);
  }

  #show(text: string): void {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  }
}

const plainLines: Progress = {
  round(name: string, secondsLeft: number): void {
    console.error(`${name}; about ${formatSeconds(secondsLeft)} left`);
  },
  step(): void {
    // A log keeps its rounds; single steps would fill it.
  },
  end(): void {
    // Nothing is left open.
  },
};
