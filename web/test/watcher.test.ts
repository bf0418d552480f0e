import assert from "node:assert/strict";
import { test } from "node:test";
import type { State } from "../src/machine";
import { Watcher, type Attempt, type AttemptEvents, type Timings } from "../src/watcher";
import type { PlayerReport } from "../src/reporter";
import type { Sample } from "../src/watchdog";
import { problem, VirtualClock } from "./helpers";

class FakeAttempt implements Attempt {
  connected = false;
  alive = true;
  closed = false;
  freezes = 0;
  readonly reports: PlayerReport[] = [];
  #bytes = 0;
  readonly openedAt: number;
  readonly events: AttemptEvents;

  constructor(events: AttemptEvents, openedAt: number) {
    this.events = events;
    this.openedAt = openedAt;
  }

  sample(): Promise<Sample | null> {
    if (this.alive) this.#bytes += 1000;
    const reception = { freezes: this.freezes, frozenSeconds: 0, framesDropped: 0, jitterBufferMs: 5, decoder: "FFmpeg" };
    const picture = { frames: this.#bytes / 100, width: 640, height: 360, fps: 30, codec: "H264" };
    return Promise.resolve({ bytes: this.#bytes, heard: this.#bytes, reception, ...picture });
  }

  report(report: PlayerReport): void {
    this.reports.push(report);
  }

  close(): void {
    this.closed = true;
  }
}

/** `agentUp` tells whether an attempt that is opened now is answered; 150 ms later there is a picture. */
function world(agentUp: (now: number) => boolean) {
  const clock = new VirtualClock();
  const attempts: FakeAttempt[] = [];
  const log: [number, State["name"], Timings][] = [];
  const watcher = new Watcher({
    clock,
    random: () => 0.5,
    hidden: () => false,
    onSample: () => {},
    onClose: () => {},
    onTrack: () => {},
    onState: (state, timings) => log.push([clock.now(), state.name, timings]),
    open: (events) => {
      const attempt = new FakeAttempt(events, clock.now());
      attempts.push(attempt);
      clock.after(20, () => {
        events.posted();
        if (!agentUp(clock.now())) return events.lost(problem());
        events.answered();
        attempt.connected = true;
        events.connected();
        clock.after(130, () => watcher.frame());
      });
      return attempt;
    },
  });
  const current = (): FakeAttempt => {
    const last = attempts.at(-1);
    assert.ok(last);
    return last;
  };
  return { attempts, clock, current, log, watcher };
}

test("plays, with the times of each step", async () => {
  const { clock, log, watcher } = world(() => true);
  watcher.play();
  await clock.advance(1000);
  assert.deepEqual(log, [
    [0, "connecting", {}],
    [150, "playing", { posted: 20, answered: 20, connected: 20, firstFrame: 150 }],
  ]);
});

test("an agent that is killed and back after 6 s is watched again within 10 s", async () => {
  let killedAt = Infinity;
  const { attempts, clock, current, log, watcher } = world((now) => now < killedAt || now >= killedAt + 6000);
  watcher.play();
  await clock.advance(20_000);
  killedAt = clock.now();
  current().alive = false;
  await clock.advance(10_000);
  const [second] = attempts.slice(1);
  assert.ok(second && second.openedAt - killedAt <= 3000, "the first new attempt comes within 3 s");
  assert.equal(watcher.state.name, "playing");
  const back = log.findLast(([, name]) => name === "playing");
  assert.ok(back && back[0] - killedAt < 8000);
  assert.ok(attempts.slice(0, -1).every((attempt) => attempt.closed));
});

test("the agent is told how it goes after ten seconds, and again when there are new freezes", async () => {
  const { clock, current, watcher } = world(() => true);
  watcher.play();
  await clock.advance(30_000);
  assert.deepEqual(
    current().reports.map(({ freezes, decoder }) => [freezes, decoder]),
    [[0, "FFmpeg"]],
  );
  current().freezes = 2;
  await clock.advance(60_000);
  assert.deepEqual(
    current().reports.map(({ freezes }) => freezes),
    [0, 2],
  );
});

test("stopping closes the attempt and ends sampling and retrying", async () => {
  const { attempts, clock, watcher } = world(() => true);
  watcher.play();
  await clock.advance(1000);
  watcher.stop();
  await clock.advance(60_000);
  assert.equal(watcher.state.name, "idle");
  assert.deepEqual(attempts.map(({ closed }) => closed), [true]);
});

test("callbacks of an attempt that was replaced are ignored", async () => {
  const { attempts, clock, watcher } = world(() => true);
  watcher.play();
  await clock.advance(1000);
  const [old] = attempts;
  watcher.stop();
  watcher.play();
  old?.events.lost(problem());
  old?.events.answered();
  assert.equal(watcher.state.name, "connecting");
  assert.equal(watcher.timings.answered, undefined);
  await clock.advance(1000);
  assert.equal(watcher.state.name, "playing");
});

test("a nudge makes a pending retry due now", async () => {
  let up = false;
  const { clock, watcher } = world(() => up);
  watcher.play();
  await clock.advance(10_000);
  assert.equal(watcher.state.name, "failed");
  up = true;
  watcher.nudge();
  await clock.advance(200);
  assert.equal(watcher.state.name, "playing");
});

test("a decoder that makes frames counts as a picture where nobody reports one", async () => {
  const clock = new VirtualClock();
  let events: AttemptEvents | null = null;
  const watcher = new Watcher({
    clock,
    random: () => 0.5,
    hidden: () => true,
    onSample: () => {},
    onClose: () => {},
    onTrack: () => {},
    onState: () => {},
    open: (theirs) => {
      events = theirs;
      return new FakeAttempt(theirs, clock.now());
    },
  });
  watcher.play();
  (events as AttemptEvents | null)?.answered();
  await clock.advance(600);
  assert.equal(watcher.state.name, "connecting");
  await clock.advance(500);
  assert.equal(watcher.state.name, "playing");
});
