/** Something that the person who starts the stack can act on. Its message is all there is to show. */
export class StackError extends Error {
  override name = "StackError";
}
