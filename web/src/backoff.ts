/**
 * How long to wait before the next attempt, and whether there is one.
 *
 * Pure: the random number is a parameter. Jitter keeps hundreds of viewers of one restarted agent from coming back in
 * the same instant.
 */
import type { Problem } from "./problem";

const STEPS_MS = [500, 1000, 2000, 4000, 8000] as const;

/** Delay after the n-th failure in a row (1, 2, ...): 0.5, 1, 2, 4, 8, 8 ... s, each times 0.8 to 1.2. */
export function backoff(failures: number, random: number): number {
  const step = STEPS_MS[Math.min(Math.max(failures, 1), STEPS_MS.length) - 1] ?? 8000;
  return Math.round(step * (0.8 + 0.4 * random));
}

/**
 * Delay before the next attempt, or null when trying again by itself cannot help.
 *
 * A Retry-After is the server's own estimate and is never undercut; it replaces the backoff, because an agent that is
 * back in 2 s should not find its viewers waiting 8 s. Later tries still stretch, up to 2 s beyond it. `longest` caps our own
 * part while a stream that just broke is being recovered.
 */
export function retryDelay(
  problem: Problem,
  failures: number,
  random: number,
  longest: number = Infinity,
): number | null {
  if (!worthRetrying(problem)) return null;
  const patience = Math.min(backoff(failures, random), longest);
  if (problem.retryAfterMs === undefined) return patience;
  return problem.retryAfterMs + Math.round(patience / 4);
}

export function worthRetrying(problem: Problem): boolean {
  switch (problem.code) {
    case "autoplay-blocked": // only a person's click unblocks it
    case "webrtc-unavailable": // a property of the browser
      return false;
  }
  switch (problem.status) {
    case 0: // no answer, or the stream went silent: networks and agents come back
    case 408: // timeouts
    case 409: // the source failed or is not live: cameras come back
    case 425: // too early
    case 429: // too many requests: later is fine
      return true;
    default: // 5xx heals; any other 4xx (token, right, camera name, codec) stays as it is until somebody acts
      return problem.status >= 500;
  }
}
