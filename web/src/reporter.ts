/**
 * What a player tells the agent about its picture: freezes and dropped frames, which nobody but the player sees.
 *
 * Pure. Totals since the session began, so that a report that gets lost costs nothing; sent at most every ten seconds,
 * and after the first only when something changed.
 */

/** What only the receiver knows, as WebRTC statistics name it. */
export interface Reception {
  readonly freezes: number;
  readonly frozenSeconds: number;
  readonly framesDropped: number;
  /** Mean time that a frame waits between arriving and being decoded, since the session began. */
  readonly jitterBufferMs: number;
  readonly decoder: string;
}

/** The body of a report. */
export interface PlayerReport extends Reception {
  readonly framesDecoded: number;
  readonly framesPerSecond: number;
}

export const REPORT_MS = 10_000;
/** Smaller changes are noise. */
const FPS_STEP = 5;
const JITTER_BUFFER_STEP_MS = 50;

interface Counted {
  readonly frames: number;
  readonly fps: number;
  readonly reception: Reception;
}

export class Reporter {
  #sent: PlayerReport | null = null;
  #lookedAt: number;

  constructor(startedAt: number) {
    this.#lookedAt = startedAt;
  }

  /** The report that is due now, or null. */
  next(at: number, { frames, fps, reception }: Counted): PlayerReport | null {
    if (at - this.#lookedAt < REPORT_MS) return null;
    this.#lookedAt = at;
    const report = { ...reception, framesDecoded: frames, framesPerSecond: fps };
    if (this.#sent !== null && same(this.#sent, report)) return null;
    this.#sent = report;
    return report;
  }
}

function same(before: PlayerReport, now: PlayerReport): boolean {
  return (
    now.freezes === before.freezes &&
    now.frozenSeconds === before.frozenSeconds &&
    now.framesDropped === before.framesDropped &&
    now.decoder === before.decoder &&
    Math.abs(now.framesPerSecond - before.framesPerSecond) < FPS_STEP &&
    Math.abs(now.jitterBufferMs - before.jitterBufferMs) < JITTER_BUFFER_STEP_MS
  );
}
