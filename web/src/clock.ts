/** The browser's clock and timers, as everything that is tested on a virtual clock takes them. */

export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  /** Calls back after ms; the result cancels. */
  after(ms: number, callback: () => void): () => void;
}

export const browserClock: Clock = {
  now: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};
