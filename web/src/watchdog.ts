/**
 * Decides from statistics whether an answered stream is alive.
 *
 * Pure: samples and times come in, a verdict comes out. Browsers notice a killed agent only after their consent checks
 * fail (5 s to "disconnected", 30 s to "failed"); bytes that stop arriving show it in half that time.
 */
import type { LocalCode } from "./problem";

export interface Sample {
  readonly bytes: number;
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  readonly codec: string;
}

export interface Limits {
  /** No byte for this long while playing: dead. */
  readonly silentMs: number;
  /** Bytes but no decoded frame for this long while playing: dead too (a lost decoder, a key frame that never came). */
  readonly frozenMs: number;
  /** From the answer to the first byte. */
  readonly firstByteMs: number;
  /** From the answer to the first picture, while bytes arrive (long GOPs exist). */
  readonly firstFrameMs: number;
}

export const LIMITS: Limits = { silentMs: 2500, frozenMs: 6000, firstByteMs: 8000, firstFrameMs: 15_000 };

export interface Situation {
  readonly connected: boolean;
  readonly playing: boolean;
  /** Browsers may stop decoding what nobody sees. */
  readonly hidden: boolean;
}

export class Watchdog {
  readonly #limits: Limits;
  readonly #answeredAt: number;
  #bytes = 0;
  #frames = 0;
  #byteAt: number;
  #frameAt: number;

  constructor(answeredAt: number, limits: Limits = LIMITS) {
    this.#limits = limits;
    this.#answeredAt = answeredAt;
    this.#byteAt = answeredAt;
    this.#frameAt = answeredAt;
  }

  /** Looks at the newest sample (null when there are no statistics yet) and names what is wrong, if anything. */
  check(at: number, sample: Sample | null, situation: Situation): LocalCode | null {
    if (sample !== null && sample.bytes > this.#bytes) {
      this.#bytes = sample.bytes;
      this.#byteAt = at;
    }
    if (situation.hidden || (sample !== null && sample.frames > this.#frames)) {
      this.#frames = Math.max(this.#frames, sample?.frames ?? 0);
      this.#frameAt = at;
    }
    if (situation.playing) {
      if (at - this.#byteAt >= this.#limits.silentMs) return "stream-silent";
      return at - this.#frameAt >= this.#limits.frozenMs ? "no-picture" : null;
    }
    if (this.#bytes === 0) {
      if (at - this.#answeredAt < this.#limits.firstByteMs) return null;
      return situation.connected ? "no-media" : "no-media-path";
    }
    if (at - this.#byteAt >= this.#limits.firstByteMs) return "stream-silent";
    return at - this.#answeredAt >= this.#limits.firstFrameMs ? "no-picture" : null;
  }
}
