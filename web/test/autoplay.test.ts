import assert from "node:assert/strict";
import { test } from "node:test";
import { start } from "../src/autoplay";

class Video {
  asked = 0;
  muted: boolean;
  readonly #refuses: (muted: boolean) => string | null;

  constructor(muted: boolean, refuses: (muted: boolean) => string | null) {
    this.muted = muted;
    this.#refuses = refuses;
  }

  play(): Promise<void> {
    this.asked++;
    const name = this.#refuses(this.muted);
    return name === null ? Promise.resolve() : Promise.reject(new DOMException("no", name));
  }
  begin(): Promise<boolean> {
    return start(this, () => {
      this.muted = true;
    });
  }
}

test("what may sound goes on sounding", async () => {
  const video = new Video(false, () => null);
  assert.equal(await video.begin(), true);
  assert.deepEqual([video.muted, video.asked], [false, 1]);
});

test("where only sound is refused the picture is shown without it", async () => {
  const video = new Video(false, (muted) => (muted ? null : "NotAllowedError"));
  assert.equal(await video.begin(), true);
  assert.deepEqual([video.muted, video.asked], [true, 2]);
});

test("a browser that wants a click for the picture too is asked no further", async () => {
  const video = new Video(false, () => "NotAllowedError");
  assert.equal(await video.begin(), false);
  assert.equal(video.asked, 2);
});

test("a stream that another one replaces meanwhile is no refusal", async () => {
  const video = new Video(false, () => "AbortError");
  assert.equal(await video.begin(), true);
  assert.deepEqual([video.muted, video.asked], [false, 1]);
});
