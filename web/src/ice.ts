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

/** Keeps an answer for a while, so that a player that tries again asks once; a failed question is not kept. */
export class IceConfigCache {
  readonly #load: () => Promise<IceConfig>;
  readonly #now: () => number;
  readonly #keepMs: number;
  #asked: { at: number; answer: Promise<IceConfig> } | null = null;

  constructor(load: () => Promise<IceConfig>, now: () => number, keepMs = 60_000) {
    this.#load = load;
    this.#now = now;
    this.#keepMs = keepMs;
  }

  /** Never rejects: without ICE servers many paths still work, and the offer that follows tells what is wrong. */
  get(): Promise<IceConfig> {
    const at = this.#now();
    if (this.#asked === null || at - this.#asked.at >= this.#keepMs) {
      const answer = this.#load().catch(() => {
        this.#asked = null;
        return NO_ICE_SERVERS;
      });
      this.#asked = { at, answer };
    }
    return this.#asked.answer;
  }
}
