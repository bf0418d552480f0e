/** ICE servers: from the front door's config, or from the Link headers of any WHEP endpoint (RFC 9725 section 4.6). */
import { request, type RequestOptions } from "./api";

const NO_ICE_SERVERS: IceConfig = { iceServers: [], iceTransportPolicy: "all" };
const TIMEOUT_MS = 5_000;

/** Asks a WHEP endpoint itself, for front doors that have no config of their own. */
export async function discoverIceServers(options: RequestOptions, endpoint: string): Promise<IceConfig> {
  const response = await request(options, endpoint, { method: "OPTIONS", signal: AbortSignal.timeout(TIMEOUT_MS) });
  return { ...NO_ICE_SERVERS, iceServers: parseIceLinks(response.headers.get("Link")) };
}

/** Parses `<turn:host>; rel="ice-server"; username="u"; credential="c"` lines; a comma or semicolon may be quoted. */
export function parseIceLinks(header: string | null): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const [, url, parameters] of (header ?? "").matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+(?:="[^"]*"|=[^\s;,"]*)?)*)/g)) {
    const values = new Map<string, string>();
    for (const [, key, quoted, plain] of (parameters ?? "").matchAll(/;\s*([\w-]+)(?:="([^"]*)"|=([^\s;,"]*))?/g)) {
      if (key !== undefined) values.set(key.toLowerCase(), quoted ?? plain ?? "");
    }
    if (url === undefined || !/^(stuns?|turns?):/.test(url)) continue;
    if (!(values.get("rel") ?? "").split(/\s+/).includes("ice-server")) continue;
    const username = values.get("username");
    const credential = values.get("credential");
    servers.push({
      urls: url,
      ...(username === undefined ? {} : { username }),
      ...(credential === undefined ? {} : { credential }),
    });
  }
  return servers;
}

/** The part of RTCConfiguration that a front door knows. */
export interface IceConfig {
  readonly iceServers: RTCIceServer[];
  readonly iceTransportPolicy: RTCIceTransportPolicy;
}

/**
 * Keeps answers for a while, so that a player that tries again asks once; a failed question is not kept. How to ask
 * comes with each question: one that stays would keep the player that came first, and its token, for good.
 */
export class IceConfigCache {
  readonly #now: () => number;
  readonly #keepMs: number;
  readonly #asked = new Map<string, { readonly at: number; readonly answer: Promise<IceConfig> }>();

  constructor(now: () => number, keepMs = 60_000) {
    this.#now = now;
    this.#keepMs = keepMs;
  }

  /** Never rejects: without ICE servers many paths still work, and the offer that follows tells what is wrong. */
  get(endpoint: string, load: () => Promise<IceConfig>): Promise<IceConfig> {
    const at = this.#now();
    for (const [known, asked] of this.#asked) if (at - asked.at >= this.#keepMs) this.#asked.delete(known);
    const known = this.#asked.get(endpoint);
    if (known !== undefined) return known.answer;
    const answer = load().catch(() => {
      if (this.#asked.get(endpoint)?.answer === answer) this.#asked.delete(endpoint);
      return NO_ICE_SERVERS;
    });
    this.#asked.set(endpoint, { at, answer });
    return answer;
  }
}
