const PROGRAMS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/**
 * Looks for Chromium.
 *
 * @returns Path of the program.
 * @throws {Error} Where there is none, with how to get one.
 */
export async function firstProgram(): Promise<string> {
  const named = Deno.env.get("CHROMIUM");
  for (const path of named ? [named] : PROGRAMS) {
    if (await Deno.stat(path).then(() => true, () => false)) return path;
  }
  throw new Error(
    "The browser tests need Chromium. Install it (apt-get install chromium), or name one in CHROMIUM.",
  );
}
