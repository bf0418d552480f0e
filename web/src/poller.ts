/**
 * Asks again and again, one question at a time, and not while nobody looks.
 *
 * `now()` asks at once and drops the answer of a question that is under way: it was asked under an older filter.
 */
import type { Clock } from "./clock";

export interface PollerPorts<T> {
  readonly ask: () => Promise<T>;
  readonly onAnswer: (answer: T) => void;
  readonly onError: (error: unknown) => void;
  readonly hidden: () => boolean;
  readonly clock: Pick<Clock, "after">;
}

export class Poller<T> {
  readonly #ports: PollerPorts<T>;
  readonly #everyMs: number;
  #generation = 0;
  #running = false;
  #cancel: () => void = () => {};

  constructor(ports: PollerPorts<T>, everyMs: number) {
    this.#ports = ports;
    this.#everyMs = everyMs;
  }

  start(): void {
    this.#running = true;
    this.now();
  }

  stop(): void {
    this.#running = false;
    this.#generation++;
    this.#cancel();
  }

  now(): void {
    if (this.#running) void this.#ask();
  }

  async #ask(): Promise<void> {
    this.#cancel();
    const generation = ++this.#generation;
    if (this.#ports.hidden()) return; // the page calls now() when it is seen again
    try {
      const answer = await this.#ports.ask();
      if (generation === this.#generation) this.#ports.onAnswer(answer);
    } catch (error) {
      if (generation === this.#generation) this.#ports.onError(error);
    }
    if (generation === this.#generation) this.#cancel = this.#ports.clock.after(this.#everyMs, () => this.now());
  }
}
