// Errors of the command line: what is said on stderr, and the exit code.

/** Exit codes: 0 done, 1 failed or not found, 2 the command was not written right. */
export const EXIT = { ok: 0, failure: 1, usage: 2 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A failure that the command's own output has told already: nothing is left to say, only the exit code. */
export class ToldError extends Error {
  override readonly name = "ToldError";
}

/** A failure told to the user in one line. `code` is that of the admin API's problem or of the refused join, where it comes from there. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exit: ExitCode;
  readonly code: string | undefined;
  constructor(
    message: string,
    { exit = EXIT.failure, code, cause }: { exit?: ExitCode; code?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, { cause });
    this.exit = exit;
    this.code = code;
  }
}
