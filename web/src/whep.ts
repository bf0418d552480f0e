/**
 * A WHEP client: one object, one attempt to watch one camera.
 *
 * The offer is receive-only. It is posted when ICE gathering is complete or has had its time; candidates found later are
 * sent in one PATCH to those who use them. Closing deletes the session resource with `keepalive`, so that it also works while the page goes
 * away. A request that is under way is given up (the front door notices); an answer that arrives all the same is deleted,
 * so that no session is left behind.
 */
import { request, type Fetch, type TokenProvider } from "./api";
import type { IceConfig } from "./ice";
import { layersLink, readQualities, type Qualities } from "./layers";
import { localProblem, ProblemError, problemOfError, type LocalCode, type Problem } from "./problem";
import type { PlayerReport } from "./reporter";
import type { Sample } from "./watchdog";

/** What is used of RTCPeerConnection. */
export interface Peer {
  readonly connectionState: RTCPeerConnectionState;
  readonly iceGatheringState: RTCIceGatheringState;
  readonly localDescription: { readonly sdp: string } | null;
  addTransceiver(kind: "audio" | "video", init: RTCRtpTransceiverInit): unknown;
  createOffer(): Promise<RTCSessionDescriptionInit>;
  setLocalDescription(description: RTCSessionDescriptionInit): Promise<void>;
  setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void>;
  addEventListener(type: string, listener: (event: Event) => void): void;
  getStats(): Promise<RTCStatsReport>;
  close(): void;
}

export interface WhepOptions {
  readonly endpoint: string;
  readonly audio: boolean;
  readonly token: TokenProvider;
  readonly fetch: Fetch;
  readonly ice: () => Promise<IceConfig>;
  readonly createPeer: (configuration: RTCConfiguration) => Peer;
  /** Resolves after ms; injected for tests. */
  readonly delay: (ms: number) => Promise<void>;
}

export interface WhepEvents {
  posted(): void;
  answered(): void;
  connected(): void;
  track(event: RTCTrackEvent): void;
  /** At most once, and never after close(). */
  lost(problem: Problem): void;
}

const GATHER_MS = 500;
/**
 * Without ICE servers only the device's own addresses are gathered. They come together within a few ms; Chromium then
 * takes another 110 ms for TCP placeholders that nobody needs, which would double the time to the first picture.
 */
const HOST_GATHER_MS = 20;
/** The front door parks the request while a source or an agent starts, and a change of the quality too. */
const POST_TIMEOUT_MS = 30_000;
/** What is only told is not waited for, but holds one of the few connections that a browser has to a server. */
const TELL_TIMEOUT_MS = 10_000;

export class WhepSession {
  readonly #options: WhepOptions;
  readonly #events: WhepEvents;
  readonly #late: RTCIceCandidate[] = [];
  readonly #posting = new AbortController();
  #peer: Peer | null = null;
  #resource: string | null = null;
  #layers: string | null = null;
  #etag: string | null = null;
  #sentAll = false;
  #over = false;

  constructor(options: WhepOptions, events: WhepEvents) {
    this.#options = options;
    this.#events = events;
    void this.#run();
  }

  get connected(): boolean {
    return this.#peer?.connectionState === "connected";
  }

  close(): void {
    if (this.#over) return;
    this.#end();
  }

  async sample(): Promise<Sample | null> {
    if (this.#over || this.#peer === null) return null;
    try {
      return readSample(await this.#peer.getStats());
    } catch {
      return null; // a peer that was just closed
    }
  }

  report(report: PlayerReport): void {
    if (this.#over || this.#resource === null) return;
    const body = JSON.stringify(report);
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body };
    this.#tell(`${this.#resource}/report`, init).catch(() => {}); // a report more or less
  }

  /** The qualities to choose from; null where there is one only, or nothing to ask yet. */
  qualities(): Promise<Qualities | null> {
    return this.#askLayers({ method: "GET" });
  }

  /** Changes the quality without a new offer, null: as the link carries; resolves when it is done. */
  select(quality: string | null): Promise<Qualities | null> {
    const body = JSON.stringify(quality === null ? {} : { encodingId: quality });
    return this.#askLayers({ method: "POST", headers: { "Content-Type": "application/json" }, body });
  }

  async #askLayers(init: RequestInit): Promise<Qualities | null> {
    if (this.#over || this.#layers === null) return null;
    const response = await request(this.#options, this.#layers, { ...init, signal: AbortSignal.timeout(POST_TIMEOUT_MS) });
    return readQualities(await response.json());
  }

  async #run(): Promise<void> {
    try {
      const ice = await this.#options.ice();
      if (this.#over) return;
      const offer = await this.#offer(ice);
      if (this.#over) return;
      this.#events.posted();
      const answer = await this.#post(offer);
      if (this.#over) return this.#delete();
      this.#events.answered();
      await this.#accept(answer);
      // A lite agent never checks candidates: it sees where the browser's checks come from.
      if (!this.#over && !this.#sentAll && !/^a=ice-lite/m.test(answer)) await this.#trickle(offer);
    } catch (error) {
      this.#lose(problemOfError(error));
    }
  }

  async #offer(ice: IceConfig): Promise<string> {
    let peer: Peer;
    try {
      peer = this.#options.createPeer({ ...ice, bundlePolicy: "max-bundle" });
    } catch (error) {
      throw failure("webrtc-unavailable", error);
    }
    this.#peer = peer;
    const gathered = this.#listen(peer, ice.iceServers.length === 0);
    try {
      peer.addTransceiver("video", { direction: "recvonly" });
      if (this.#options.audio) peer.addTransceiver("audio", { direction: "recvonly" });
      await peer.setLocalDescription(await peer.createOffer());
    } catch (error) {
      throw failure("webrtc-unavailable", error);
    }
    await Promise.race([gathered, this.#options.delay(GATHER_MS)]);
    this.#sentAll = peer.iceGatheringState === "complete";
    this.#late.length = 0; // what was found so far is in the description
    return peer.localDescription?.sdp ?? "";
  }

  /** Follows the peer's events; resolves when gathering is complete, or `hostOnly` and begun. */
  #listen(peer: Peer, hostOnly: boolean): Promise<void> {
    peer.addEventListener("track", (event) => {
      if (!this.#over) this.#events.track(event as RTCTrackEvent);
    });
    peer.addEventListener("connectionstatechange", () => {
      if (this.#over) return;
      if (peer.connectionState === "connected") this.#events.connected();
      else if (peer.connectionState === "failed") this.#lose(localProblem("no-media-path"));
      else if (peer.connectionState === "disconnected") this.#lose(localProblem("connection-lost"));
    });
    return new Promise((resolve) => {
      let first = true;
      peer.addEventListener("icecandidate", (event) => {
        const { candidate } = event as RTCPeerConnectionIceEvent;
        if (!candidate?.candidate) return;
        this.#late.push(candidate);
        if (hostOnly && first) void this.#options.delay(HOST_GATHER_MS).then(resolve);
        first = false;
      });
      peer.addEventListener("icegatheringstatechange", () => {
        if (peer.iceGatheringState === "complete") resolve();
      });
    });
  }

  async #post(offer: string): Promise<string> {
    const timeout = AbortSignal.timeout(POST_TIMEOUT_MS);
    timeout.addEventListener("abort", () => this.#posting.abort(timeout.reason));
    const response = await request(this.#options, this.#options.endpoint, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", Accept: "application/sdp, application/problem+json" },
      body: offer,
      signal: this.#posting.signal,
    });
    this.#resource = resourceUrl(response.headers.get("Location"), response.url || this.#options.endpoint);
    this.#etag = response.headers.get("ETag");
    const layers = layersLink(response.headers.get("Link"));
    this.#layers = layers && resourceUrl(layers, response.url || this.#options.endpoint);
    const type = response.headers.get("Content-Type") ?? "";
    const answer = await response.text();
    if (!type.startsWith("application/sdp") || !answer.startsWith("v=")) {
      await this.#delete();
      throw failure("bad-answer");
    }
    return answer;
  }

  async #accept(answer: string): Promise<void> {
    try {
      await this.#peer?.setRemoteDescription({ type: "answer", sdp: answer });
    } catch (error) {
      if (!this.#over) throw failure("bad-answer", error);
    }
  }

  /** Sends the candidates that missed the offer. Servers that do not take them may still see them by STUN. */
  async #trickle(offer: string): Promise<void> {
    const peer = this.#peer;
    while (peer?.iceGatheringState === "gathering" && !this.#over) await this.#options.delay(GATHER_MS);
    if (this.#over || this.#resource === null || this.#late.length === 0) return;
    try {
      await this.#tell(this.#resource, {
        method: "PATCH",
        headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": this.#etag ?? "*" },
        body: sdpFragment(offer, this.#late),
      });
    } catch {
      // The connection tells whether the candidates were needed.
    }
  }

  #tell(url: string, init: RequestInit): Promise<Response> {
    return request(this.#options, url, { ...init, signal: AbortSignal.timeout(TELL_TIMEOUT_MS) });
  }

  #lose(problem: Problem): void {
    if (this.#over) return;
    this.#end();
    this.#events.lost(problem);
  }

  #end(): void {
    this.#over = true;
    this.#posting.abort(); // a parked request holds one of the few connections that a browser has to a server
    this.#peer?.close();
    void this.#delete();
  }

  async #delete(): Promise<void> {
    const resource = this.#resource;
    this.#resource = null;
    if (resource === null) return;
    try {
      await this.#tell(resource, { method: "DELETE", keepalive: true });
    } catch {
      // Gone already, or out of reach: the agent notices a silent viewer by itself.
    }
  }
}

/**
 * The session resource to talk to, or null. The token goes to the origin that took the offer only: a Location that
 * names another origin (a front door that does not know its public address) is followed by path.
 */
export function resourceUrl(location: string | null, endpoint: string): string | null {
  if (location === null || !URL.canParse(location, endpoint)) return null;
  const base = new URL(endpoint);
  const url = new URL(location, base);
  if (url.origin === base.origin) return url.href;
  return url.pathname.startsWith(`${base.pathname}/`) ? new URL(url.pathname, base).href : null;
}

/** A fragment as in RFC 8840 section 9: the offer's ICE credentials and the candidates by media section. */
export function sdpFragment(offer: string, candidates: readonly RTCIceCandidate[]): string {
  const lines = offer.split(/\r?\n/);
  const session = ["a=ice-ufrag:", "a=ice-pwd:"].flatMap((start) => lines.find((line) => line.startsWith(start)) ?? []);
  const media: string[] = [];
  for (const section of offer.split(/^(?=m=)/m).slice(1)) {
    const mid = /^a=mid:(\S+)/m.exec(section)?.[1];
    const found = candidates.filter((candidate) => candidate.sdpMid === mid);
    if (mid === undefined || found.length === 0) continue;
    media.push(section.split(/\r?\n/)[0] ?? "", `a=mid:${mid}`);
    media.push(...found.map((candidate) => `a=${candidate.candidate}`), "a=end-of-candidates");
  }
  return [...session, ...media, ""].join("\r\n");
}

/** What the watchdog and the page need of the receiver's statistics; null before the first packet. */
export function readSample(report: Iterable<readonly [string, Readonly<Record<string, unknown>>]>): Sample | null {
  const stats = new Map(report);
  for (const entry of stats.values()) {
    if (entry["type"] !== "inbound-rtp" || entry["kind"] !== "video") continue;
    const number = (key: string): number => numberOf(entry, key);
    const mimeType = stats.get(String(entry["codecId"]))?.["mimeType"];
    const emitted = number("jitterBufferEmittedCount");
    const decoder = entry["decoderImplementation"];
    return {
      bytes: number("bytesReceived"),
      frames: number("framesDecoded"),
      width: number("frameWidth"),
      height: number("frameHeight"),
      fps: number("framesPerSecond"),
      codec: typeof mimeType === "string" ? mimeType.replace("video/", "") : "",
      heard: heard(stats.values()),
      reception: {
        freezes: number("freezeCount"),
        frozenSeconds: round(number("totalFreezesDuration"), 3),
        framesDropped: number("framesDropped"),
        jitterBufferMs: emitted > 0 ? round((number("jitterBufferDelay") / emitted) * 1000, 1) : 0,
        decoder: typeof decoder === "string" && decoder !== "unknown" ? decoder.slice(0, 64) : "",
      },
    };
  }
  return null;
}

/** RTP and RTCP bytes, answers to ICE checks, sender reports: whatever shows that the agent lives. */
function heard(entries: Iterable<Readonly<Record<string, unknown>>>): number {
  let sum = 0;
  for (const entry of entries) {
    if (entry["type"] === "candidate-pair") sum += numberOf(entry, "bytesReceived") + numberOf(entry, "responsesReceived");
    else if (entry["type"] === "remote-outbound-rtp") sum += numberOf(entry, "reportsSent");
  }
  return sum;
}

function numberOf(entry: Readonly<Record<string, unknown>>, key: string): number {
  const value = entry[key];
  return typeof value === "number" ? value : 0;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

function failure(code: LocalCode, cause?: unknown): ProblemError {
  return new ProblemError(localProblem(code), { cause });
}
