/**
 * Runs the state machine: opens and closes attempts, keeps the retry timer, looks at statistics.
 *
 * It knows neither the DOM nor WebRTC: both come through ports, so that a killed agent can be played through on a
 * virtual clock. Each attempt has its own callbacks; those of an attempt that was replaced are ignored.
 */
import type { Clock } from "./clock";
import { IDLE, step, type Effect, type Event, type State } from "./machine";
import { localProblem, type Problem } from "./problem";
import { Reporter, type PlayerReport } from "./reporter";
import { Watchdog, type Sample } from "./watchdog";

export interface Attempt {
  readonly connected: boolean;
  sample(): Promise<Sample | null>;
  /** Tells the agent how the picture is received. */
  report(report: PlayerReport): void;
  close(): void;
}

export interface AttemptEvents {
  posted(): void;
  answered(): void;
  connected(): void;
  track(event: RTCTrackEvent): void;
  lost(problem: Problem): void;
}

/** Milliseconds since the attempt began. */
export type Timings = Partial<Record<"posted" | "answered" | "connected" | "firstFrame", number>>;

export interface WatcherPorts {
  readonly open: (events: AttemptEvents) => Attempt;
  readonly clock: Clock;
  readonly random: () => number;
  readonly hidden: () => boolean;
  readonly onState: (state: State, timings: Timings) => void;
  readonly onTrack: (event: RTCTrackEvent) => void;
  /** `quiet`: the agent is there, but no pictures come. */
  readonly onSample: (sample: Sample | null, quiet: boolean) => void;
  /** Just before an attempt is closed: its last picture can still be had. */
  readonly onClose: () => void;
}

const SAMPLE_MS = 500;

interface Current {
  attempt: Attempt | null;
  watchdog: Watchdog | null;
  decoded: number;
  readonly reporter: Reporter;
  readonly startedAt: number;
  readonly timings: Timings;
}

export class Watcher {
  readonly #ports: WatcherPorts;
  #state: State = IDLE;
  #current: Current | null = null;
  #cancelWait: () => void = () => {};
  #cancelSample: () => void = () => {};

  constructor(ports: WatcherPorts) {
    this.#ports = ports;
  }

  get state(): State {
    return this.#state;
  }

  get timings(): Timings {
    return { ...this.#current?.timings };
  }

  play(): void {
    this.#feed({ type: "play", at: this.#ports.clock.now() });
  }

  stop(): void {
    this.#feed({ type: "stop" });
  }

  /** The network or the page came back: a retry that is pending is due now. */
  nudge(): void {
    this.#feed({ type: "due", at: this.#ports.clock.now() });
  }

  /** A picture of the present attempt was shown. */
  frame(): void {
    if (this.#current === null) return;
    this.#mark(this.#current, "firstFrame");
    this.#feed({ type: "frame", at: this.#ports.clock.now() });
  }

  fail(problem: Problem): void {
    this.#feed({ type: "lost", at: this.#ports.clock.now(), problem, random: this.#ports.random() });
  }

  #feed(event: Event): void {
    const { state, effects } = step(this.#state, event);
    if (state === this.#state) return;
    this.#state = state;
    this.#cancelWait();
    const timings = this.timings;
    for (const effect of effects) this.#perform(effect);
    this.#ports.onState(state, state.name === "connecting" ? {} : timings);
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case "open":
        return this.#open();
      case "close": {
        this.#cancelSample();
        const attempt = this.#current?.attempt;
        this.#current = null;
        this.#ports.onClose();
        return attempt?.close();
      }
      case "wait":
        this.#cancelWait = this.#ports.clock.after(effect.ms, () => this.nudge());
    }
  }

  #open(): void {
    const current: Current = {
      attempt: null,
      watchdog: null,
      decoded: 0,
      reporter: new Reporter(this.#ports.clock.now()),
      startedAt: this.#ports.clock.now(),
      timings: {},
    };
    this.#current = current;
    const mine = (act: () => void) => {
      if (this.#current === current) act();
    };
    current.attempt = this.#ports.open({
      posted: () => mine(() => this.#mark(current, "posted")),
      answered: () =>
        mine(() => {
          this.#mark(current, "answered");
          current.watchdog = new Watchdog(this.#ports.clock.now());
          this.#sampleSoon(current);
        }),
      connected: () => mine(() => this.#mark(current, "connected")),
      track: (event) => mine(() => this.#ports.onTrack(event)),
      lost: (problem) => mine(() => this.fail(problem)),
    });
  }

  #mark(current: Current, what: keyof Timings): void {
    current.timings[what] ??= this.#ports.clock.now() - current.startedAt;
  }

  #sampleSoon(current: Current): void {
    this.#cancelSample = this.#ports.clock.after(SAMPLE_MS, () => void this.#sample(current));
  }

  async #sample(current: Current): Promise<void> {
    const sample = (await current.attempt?.sample()) ?? null;
    if (this.#current !== current) return;
    // Hidden pages and browsers without requestVideoFrameCallback never report a frame: the decoder tells it.
    if (this.#state.name === "connecting" && current.decoded > 0 && sample !== null) this.frame();
    current.decoded = sample?.frames ?? 0;
    const at = this.#ports.clock.now();
    const verdict = current.watchdog?.check(at, sample, {
      connected: current.attempt?.connected ?? false,
      playing: this.#state.name === "playing",
      hidden: this.#ports.hidden(),
    });
    this.#ports.onSample(sample, current.watchdog?.quiet ?? false);
    const report = sample === null ? null : current.reporter.next(at, sample);
    if (report !== null) current.attempt?.report(report);
    if (verdict) this.fail(localProblem(verdict));
    else this.#sampleSoon(current);
  }
}
