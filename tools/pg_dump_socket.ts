/** Where in the shared memory the length of an answer is, in bytes from its start. */
export const LENGTH = 0;
/** Where the answer itself begins. */
export const BYTES = 8;

/** The other thread of {@link dump}: sends what it gets, and puts the server's whole answer into shared memory. */
function serve(worker: Worker): void {
  let connection: Deno.Conn;
  let memory: SharedArrayBuffer;
  let unsent = new Uint8Array();
  let started = false;
  worker.onmessage = async ({ data }) => {
    if (!(data instanceof Uint8Array)) {
      connection = await Deno.connect(data);
      memory = data.shared;
      worker.postMessage("connected");
      return;
    }
    unsent = joined(unsent, data);
    let answer = new Uint8Array();
    // libpq writes a long message in pieces, and expects no answer before the last one
    if (endsWhole(unsent, started ? 1 : 0)) {
      await write(connection, unsent);
      const over = started && unsent[0] === TERMINATE;
      unsent = new Uint8Array();
      started = true;
      while (!over && !isWholeAnswer(answer)) answer = joined(answer, await read(connection));
    }
    new Uint8Array(memory, BYTES).set(answer);
    const length = new Int32Array(memory, LENGTH, 1);
    Atomics.store(length, 0, answer.length);
    Atomics.notify(length, 0);
  };
}

const TERMINATE = "X".charCodeAt(0);
const ERROR = "E".charCodeAt(0);
const READY_FOR_QUERY = "Z".charCodeAt(0);
const AUTHENTICATION = "R".charCodeAt(0);
/** Of the messages about authentication those after which the server waits for the client. */
const ASKS_FOR_A_PASSWORD = [3, 5, 10, 11];

/** The messages in these bytes, each with the place of what follows its length; only the first has no type. */
function* messages(bytes: Uint8Array, typeLength: number) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length;) {
    const end = at + typeLength + 4 <= bytes.length
      ? at + typeLength + view.getInt32(at + typeLength)
      : Infinity;
    yield { type: bytes[at]!, at: at + typeLength + 4, end, view };
    at = end;
  }
}

function endsWhole(bytes: Uint8Array, typeLength: number): boolean {
  return [...messages(bytes, typeLength)].at(-1)?.end === bytes.length;
}

/** Whether the server waits for the client now. */
function isWholeAnswer(bytes: Uint8Array): boolean {
  const last = [...messages(bytes, 1)].at(-1);
  if (last?.end !== bytes.length) return false;
  return last.type === READY_FOR_QUERY ||
    last.type === AUTHENTICATION && ASKS_FOR_A_PASSWORD.includes(last.view.getInt32(last.at)) ||
    // after any other error the server gets ready for the next query
    last.type === ERROR && new TextDecoder().decode(bytes).includes("FATAL");
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

async function write(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

async function read(connection: Deno.Conn): Promise<Uint8Array> {
  const bytes = new Uint8Array(1 << 16);
  const length = await connection.read(bytes);
  if (length === null) throw new Error("the server has closed the connection");
  return bytes.subarray(0, length);
}

// in the thread that dump() starts, and not where this file is only imported
if (import.meta.main) serve(globalThis as unknown as Worker);
