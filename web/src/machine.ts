/**
 * The player's state machine: pure, no clock, no timer, no network.
 *
 *     idle --play--> connecting --frame--> playing --lost, once--> connecting (at once)
 *                        |  ^                 |
 *                   lost |  | due, play       | lost again before it was steady
 *                        v  |                 |
 *                       failed <--------------+
 *
 * `stop` leads to idle from everywhere. An event that a state does not know is ignored (the same state object comes
 * back): late callbacks are normal in a browser. The watcher carries out the effects.
 */
import { retryDelay, worthRetrying } from "./backoff";
import type { Problem } from "./problem";

/** Playing this long forgets earlier failures. */
export const STEADY_MS = 10_000;
/** For this long after a playing stream broke, attempts follow one another quickly: a restarted agent is soon back. */
export const RECOVERY_MS = 15_000;
const RECOVERY_STEP_MS = 1_000;

interface Tries {
  /** Failed attempts in a row; the free one at once after a break is not counted. */
  readonly failures: number;
  /** When a playing stream broke, until it played steadily again; null if it did not. */
  readonly brokeAt: number | null;
}

export type State =
  | { readonly name: "idle" }
  | ({ readonly name: "connecting" } & Tries)
  | ({ readonly name: "playing"; readonly since: number } & Tries)
  | ({
      readonly name: "failed";
      readonly problem: Problem;
      /** When the next attempt is due; null when only a person can help. */
      readonly retryAt: number | null;
    } & Tries);

export type Event =
  | { readonly type: "play"; readonly at: number }
  | { readonly type: "stop" }
  | { readonly type: "frame"; readonly at: number }
  | { readonly type: "lost"; readonly at: number; readonly problem: Problem; readonly random: number }
  | { readonly type: "due"; readonly at: number };

/** `wait` carries the delay in ms; any other effect first cancels a pending wait. */
export type Effect = { readonly type: "open" } | { readonly type: "close" } | { readonly type: "wait"; readonly ms: number };

export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
}

export const IDLE: State = { name: "idle" };
const OPEN: Effect = { type: "open" };
const CLOSE: Effect = { type: "close" };

export function step(state: State, event: Event): Step {
  switch (event.type) {
    case "play":
      return state.name === "idle" || state.name === "failed" ? connect({ failures: 0, brokeAt: null }) : same(state);
    case "due":
      return state.name === "failed" && state.retryAt !== null ? connect(state) : same(state);
    case "frame": {
      if (state.name !== "connecting") return same(state);
      const { failures, brokeAt } = state;
      return { state: { name: "playing", since: event.at, failures, brokeAt }, effects: [] };
    }
    case "stop":
      return state.name === "idle" ? same(state) : { state: IDLE, effects: [CLOSE] };
    case "lost":
      return lost(state, event);
  }
}

function lost(state: State, { at, problem, random }: Event & { type: "lost" }): Step {
  if (state.name !== "connecting" && state.name !== "playing") return same(state);
  const steady = state.name === "playing" && at - state.since >= STEADY_MS;
  const before: Tries = steady ? { failures: 0, brokeAt: null } : state;
  // A stream that played and broke is tried again at once: most often the path or the agent is already back.
  if (state.name === "playing" && before.brokeAt === null && worthRetrying(problem)) {
    const { state: next } = connect({ failures: before.failures, brokeAt: at });
    return { state: next, effects: [CLOSE, OPEN] };
  }
  const { brokeAt } = before;
  const failures = before.failures + 1;
  const recovering = brokeAt !== null && at - brokeAt < RECOVERY_MS;
  const delay = retryDelay(problem, failures, random, recovering ? RECOVERY_STEP_MS : Infinity);
  const retryAt = delay === null ? null : at + delay;
  return {
    state: { name: "failed", failures, brokeAt, problem, retryAt },
    effects: delay === null ? [CLOSE] : [CLOSE, { type: "wait", ms: delay }],
  };
}

function connect({ failures, brokeAt }: Tries): Step {
  return { state: { name: "connecting", failures, brokeAt }, effects: [OPEN] };
}

function same(state: State): Step {
  return { state, effects: [] };
}
