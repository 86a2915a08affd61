/**
 * The errors that a verb ends with on purpose. `cli.ts` prints each as one line, without a stack, and
 * turns it into an exit status; any other error is a defect of ours and is shown with its stack.
 *
 * @module
 */

/** The caller asked for something that is not valid: exit status 2. */
export class UsageError extends Error {
  /** The name under which the error is shown. */
  override name = "UsageError";
}

/** What was asked is valid, but it failed while running: exit status 1. */
export class RunError extends Error {
  /** The name under which the error is shown. */
  override name = "RunError";
}

/** The command ends with this status, and what was to be said has been said. */
export class Exit extends Error {
  /** The name under which the error is shown. */
  override name = "Exit";
  /** The exit status. */
  readonly status: number;

  /**
   * @param status The exit status, for example 130 after Ctrl-C.
   */
  constructor(status: number) {
    super(`exit status ${status}`);
    this.status = status;
  }
}
