/** One function as `supabase functions deploy --use-api` sent it. */
export interface Upload {
  /** What the platform would keep beside the files. */
  metadata: { entrypoint_path?: string; import_map_path?: string; verify_jwt?: boolean };
  /** The files, by the path that the CLI gave them. */
  files: Map<string, Uint8Array<ArrayBuffer>>;
}

/** A stand-in for the platform's management API. */
export interface FakeManagementApi {
  url: string;
  /** What was deployed, by the function's name. */
  uploads: Map<string, Upload>;
  /** Requests that it has no answer for: the CLI asks something new. */
  unknown: string[];
  close(): Promise<void>;
}

/**
 * Starts the part of the platform's management API that a deploy talks to, on loopback. It keeps what it is sent.
 *
 * @returns The server, on a port of its own.
 */
export function startFakeManagementApi(): FakeManagementApi {
  const uploads: FakeManagementApi["uploads"] = new Map();
  const unknown: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname, searchParams } = new URL(request.url);
    const [, ref, path] = pathname.match(/^\/v1\/projects\/([a-z]{20})(.*)/) ?? [, "", pathname];
    const call = `${request.method} ${path}`;
    switch (call) {
      case "POST /functions/deploy": {
        const form = await request.formData();
        const upload = await readUpload(form);
        const slug = searchParams.get("slug") ?? "";
        uploads.set(slug, upload);
        return Response.json(record(slug, upload.metadata), { status: 201 });
      }
      // several functions are bundled one by one and then put in place together
      case "PUT /functions": {
        const functions: { slug: string }[] = await request.json();
        return Response.json({ functions: functions.map((each) => record(each.slug, each)) });
      }
      case "GET /functions":
        return Response.json([]);
      case "GET ": // the project itself, which the CLI wants to name
        return Response.json({
          id: ref,
          ref,
          name: ref,
          organization_id: ref,
          region: "local",
          created_at: "",
          status: "",
        });
      default:
        await request.body?.cancel();
        unknown.push(call);
        return Response.json({ message: `not known to the fake: ${call}` }, { status: 404 });
    }
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    uploads,
    unknown,
    close: () => server.shutdown(),
  };
}

async function readUpload(form: FormData): Promise<Upload> {
  const metadata = form.get("metadata");
  const files = form.getAll("file").filter((part) => part instanceof File);
  return {
    metadata: JSON.parse(metadata instanceof File ? await metadata.text() : metadata ?? "{}"),
    files: new Map(
      await Promise.all(files.map(async (file) => [file.name, await file.bytes()] as const)),
    ),
  };
}

function record(slug: string, fields: object) {
  const now = Date.now();
  return {
    ...fields,
    id: slug,
    slug,
    name: slug,
    status: "ACTIVE",
    version: 1,
    created_at: now,
    updated_at: now,
  };
}
