/**
 * Decides from statistics whether an answered stream is alive.
 *
 * Pure: samples and times come in, a verdict comes out. Browsers notice a killed agent only after their consent checks
 * fail (5 s to "disconnected", 30 s to "failed"); silence shows it in half that time. Pictures that stop while the agent
 * still answers (its sender reports, its answers to the browser's checks: one of them each 2.5 s) mean that the camera
 * is away: the stream is quiet, the connection is kept, and the picture is back as soon as the camera is.
 */
import type { LocalCode } from "./problem";
import type { Reception } from "./reporter";

export interface Sample {
  readonly bytes: number;
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  readonly codec: string;
  /** Grows with everything that comes from the agent, media or not. */
  readonly heard: number;
  readonly reception: Reception;
}

export interface Limits {
  /** No byte of media for this long while playing: quiet. */
  readonly quietMs: number;
  /** Nothing at all from the agent for this long while playing: dead. */
  readonly silentMs: number;
  /** Quiet for this long: worth a new attempt, which is told why. */
  readonly awayMs: number;
  /** Bytes but no decoded frame for this long while playing: dead too (a lost decoder, a key frame that never came). */
  readonly frozenMs: number;
  /** From the answer to the first byte. */
  readonly firstByteMs: number;
  /** From the answer to the first picture, while bytes arrive (long GOPs exist) and the page is seen. */
  readonly firstFrameMs: number;
}

export const LIMITS: Limits = {
  quietMs: 2500,
  silentMs: 3000,
  awayMs: 120_000,
  frozenMs: 6000,
  firstByteMs: 8000,
  firstFrameMs: 15_000,
};

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
  #heard = 0;
  #quiet = false;
  #byteAt: number;
  #frameAt: number;
  #heardAt: number;

  constructor(answeredAt: number, limits: Limits = LIMITS) {
    this.#limits = limits;
    this.#answeredAt = answeredAt;
    this.#byteAt = answeredAt;
    this.#frameAt = answeredAt;
    this.#heardAt = answeredAt;
  }

  /** Pictures do not come, and it is not the agent's or the network's doing. */
  get quiet(): boolean {
    return this.#quiet;
  }

  /** Looks at the newest sample (null when there are no statistics yet) and names what is wrong, if anything. */
  check(at: number, sample: Sample | null, situation: Situation): LocalCode | null {
    if (sample !== null && sample.bytes > this.#bytes) {
      this.#bytes = sample.bytes;
      this.#byteAt = at;
    }
    if (sample !== null && sample.heard !== this.#heard) {
      this.#heard = sample.heard;
      this.#heardAt = at;
    }
    this.#quiet = situation.playing && at - this.#byteAt >= this.#limits.quietMs;
    if (situation.hidden || this.#quiet || (sample !== null && sample.frames > this.#frames)) {
      this.#frames = Math.max(this.#frames, sample?.frames ?? 0);
      this.#frameAt = at;
    }
    if (situation.playing) {
      if (at - Math.max(this.#byteAt, this.#heardAt) >= this.#limits.silentMs) return "stream-silent";
      if (at - this.#byteAt >= this.#limits.awayMs) return "stream-silent";
      return at - this.#frameAt >= this.#limits.frozenMs ? "no-picture" : null;
    }
    if (this.#bytes === 0) {
      if (at - this.#answeredAt < this.#limits.firstByteMs) return null;
      return situation.connected ? "no-media" : "no-media-path";
    }
    if (at - this.#byteAt >= this.#limits.firstByteMs) return "stream-silent";
    return at - this.#frameAt >= this.#limits.firstFrameMs ? "no-picture" : null;
  }
}
