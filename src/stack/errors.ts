// The one error that the stack raises on purpose.

/** Something a person can put right. Its message says what and how, and is shown alone; it never holds a secret. */
export class StackError extends Error {
  override name = "StackError";
}
