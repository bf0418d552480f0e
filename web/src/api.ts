/**
 * Typed access to the front door's REST API.
 *
 * Every call carries the Bearer token that the provider gives at that moment and either resolves with the typed body
 * or rejects with a ProblemError. Tokens go to the configured origin only, and never into an error.
 */
import type { IceConfig } from "./ice";
import { localProblem, ProblemError, problemOf, problemOfError } from "./problem";

export type TokenProvider = () => string | null | Promise<string | null>;
export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;
export type Right = "View" | "Publish" | "Manage";

export interface Me {
  readonly user: string;
  readonly groups: readonly string[];
  readonly issuer: string;
}

export interface SourceSummary {
  readonly reason?: string | null;
  readonly message?: string | null;
  readonly videoCodec?: string | null;
  readonly width?: number | null;
  readonly height?: number | null;
  readonly fps?: number | null;
}

export interface CameraSummary {
  readonly namespace: string;
  readonly name: string;
  readonly title?: string | null;
  readonly description?: string | null;
  readonly labels?: Readonly<Record<string, string>>;
  readonly phase?: string | null;
  readonly ready: boolean;
  /** Why it is not, and what to do. */
  readonly message?: string | null;
  readonly live: boolean;
  readonly viewers: number;
  readonly source?: SourceSummary | null;
  readonly rights: readonly Right[];
}

interface Page<T> {
  readonly items: readonly T[];
  readonly continue?: string | null;
}

export interface CameraFilter {
  readonly q?: string;
  readonly live?: boolean;
}

export interface CameraList {
  readonly items: readonly CameraSummary[];
  /** False when there are more cameras than MAX_PAGES pages hold. */
  readonly complete: boolean;
}

export interface ApiOptions {
  /** Where the front door is, ending in a slash; `v1/...` is resolved against it. */
  readonly base: string;
  readonly token: TokenProvider;
  readonly fetch: Fetch;
  readonly now?: () => number;
}

const PAGE_SIZE = 200;
const MAX_PAGES = 5;
const TIMEOUT_MS = 15_000;

export class Api {
  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  me(): Promise<Me> {
    return this.#json<Me>("v1/me");
  }

  /** All cameras the caller may see, up to 1000. */
  async cameras(filter: CameraFilter = {}): Promise<CameraList> {
    const items: CameraSummary[] = [];
    const query = { ...(filter.q ? { q: filter.q } : {}), ...(filter.live ? { live: "true" } : {}) };
    for await (const page of this.#pages(query)) {
      items.push(...page.items);
      if (!page.continue) return { items, complete: true };
    }
    return { items, complete: false };
  }

  /** One camera as the wall sees it, or null when the caller does not see it. */
  async camera({ namespace, name }: { namespace: string; name: string }): Promise<CameraSummary | null> {
    // Others have its name within theirs, or in their titles.
    for await (const { items } of this.#pages({ namespace, q: name })) {
      const found = items.find((camera) => camera.namespace === namespace && camera.name === name);
      if (found !== undefined) return found;
    }
    return null;
  }

  /** What a peer connection with this camera needs: STUN and TURN servers, and whether it must go through them. */
  async iceConfig({ namespace, name }: { namespace: string; name: string }): Promise<IceConfig> {
    const query = new URLSearchParams({ namespace, camera: name });
    const answer = await this.#json<Partial<IceConfig>>(`v1/webrtc/config?${query}`);
    return { iceServers: answer.iceServers ?? [], iceTransportPolicy: answer.iceTransportPolicy ?? "all" };
  }

  /** Page after page of a list of cameras, MAX_PAGES at most. */
  async *#pages(filter: Readonly<Record<string, string>>): AsyncGenerator<Page<CameraSummary>> {
    const query = new URLSearchParams({ limit: String(PAGE_SIZE), ...filter });
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await this.#json<Page<CameraSummary>>(`v1/cameras?${query}`);
      yield answer;
      if (!answer.continue) return;
      query.set("continue", answer.continue);
    }
  }

  async #json<T>(path: string): Promise<T> {
    const response = await request(this.#options, new URL(path, this.#options.base).href, {
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    try {
      return (await response.json()) as T;
    } catch (error) {
      throw new ProblemError(localProblem("bad-answer"), { cause: error });
    }
  }
}

export type RequestOptions = Pick<ApiOptions, "token" | "fetch" | "now">;

/** One authenticated request; resolves for 2xx only. */
export async function request(options: RequestOptions, url: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  let response: Response;
  try {
    const token = await options.token();
    if (token) headers.set("Authorization", `Bearer ${token}`);
    response = await options.fetch(url, { ...init, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    throw new ProblemError(problemOfError(error), { cause: error });
  }
  if (!response.ok) throw new ProblemError(await problemOf(response, (options.now ?? Date.now)()));
  return response;
}

export function whepPath(namespace: string, name: string): string {
  return `v1/namespaces/${encodeURIComponent(namespace)}/cameras/${encodeURIComponent(name)}/whep`;
}
