/** Holdfast cannot or should not do what it was asked for. Nothing has been changed. */
export class Refusal extends Error {
  /** @param reasons What stands in the way, each with a way out. */
  constructor(...reasons: string[]) {
    super(
      reasons.length === 1 ? reasons[0] : reasons.map((reason) => `- ${reason}`).join("\n"),
    );
  }
}
