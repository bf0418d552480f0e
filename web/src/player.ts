/**
 * `<sightline-player namespace="default" name="door">`: plays one camera and tells how it goes.
 *
 * The element is the thin, visible end: the watcher decides, WhepSession talks, this shows. It is also an entry point
 * of its own (player.js), so other pages can embed it; README.md describes attributes, properties and events.
 */
import { Api, whepPath, type TokenProvider } from "./api";
import { start } from "./autoplay";
import { browserClock } from "./clock";
import { h, icon, setText } from "./dom";
import { discoverIceServers, IceConfigCache } from "./ice";
import { qualityLabel, type Qualities } from "./layers";
import type { State } from "./machine";
import shadowCss from "./player.shadow.css";
import { localProblem, type Problem } from "./problem";
import { Watcher, type Timings } from "./watcher";
import type { Sample } from "./watchdog";
import { WhepSession } from "./whep";
import { formatPicture, problemTag } from "./words";

/** Detail of the `sightline-state` event. */
export interface StateDetail {
  readonly state: State["name"];
  /** performance.now() of the change. */
  readonly at: number;
  readonly problem: Problem | null;
  /** Failed attempts in a row. */
  readonly failures: number;
  /** Milliseconds until the next attempt; null when there is none. */
  readonly retryInMs: number | null;
  readonly timings: Timings;
}

const browserFetch = (input: string, init?: RequestInit): Promise<Response> => fetch(input, init);
const iceConfigs = new IceConfigCache(browserClock.now);

export class SightlinePlayer extends HTMLElement {
  static readonly observedAttributes = ["namespace", "name", "base", "audio"];
  /** Used by every player that has no tokenProvider of its own. */
  static tokenProvider: TokenProvider = () => null;

  tokenProvider: TokenProvider | null = null;

  readonly #video = h("video", { autoplay: true, muted: true, playsInline: true, disableRemotePlayback: true });
  readonly #still = h("canvas", { hidden: true, attrs: { "aria-hidden": "true" } });
  readonly #startButton = h("button", { className: "start", type: "button", attrs: { "aria-label": "Play" } }, icon("play"));
  readonly #idle = h("div", { className: "veil idle" }, h("div", {}, this.#startButton));
  readonly #hint = h("span", { className: "hint" });
  readonly #connecting = h("div", { className: "veil over" }, h("div", {}, h("div", { className: "spinner" }), this.#hint));
  readonly #title = h("span", { className: "title" });
  readonly #detail = h("p", { className: "detail" });
  readonly #tag = h("span", { className: "tag" });
  readonly #count = h("span", { className: "count" });
  readonly #againButton = h("button", { type: "button" }, "Try again");
  readonly #problem = h(
    "div",
    { className: "veil over problem" },
    h("div", {}, icon("warning"), this.#title, this.#detail, this.#tag, h("div", { className: "again" }, this.#count, this.#againButton)),
  );
  readonly #facts = h("span", { className: "facts" });
  readonly #stopButton = h("button", { type: "button", title: "Stop", attrs: { "aria-label": "Stop" } }, icon("stop"));
  readonly #soundButton = h("button", { className: "sound", type: "button", hidden: true });
  readonly #qualitySelect = h("select", { className: "quality", hidden: true, title: "Quality", attrs: { "aria-label": "Quality" } });
  readonly #fullButton = h("button", { type: "button", title: "Full screen", attrs: { "aria-label": "Full screen" } }, icon("expand"));
  readonly #bar = h(
    "div",
    { className: "bar" },
    this.#stopButton,
    h("span", { className: "live" }, "LIVE"),
    this.#facts,
    this.#qualitySelect,
    this.#soundButton,
    this.#fullButton,
  );
  readonly #spoken = h("p", { className: "spoken", attrs: { "aria-live": "polite" } });

  readonly #watcher = new Watcher({
    open: (events) => this.#open(events),
    clock: browserClock,
    random: Math.random,
    hidden: () => document.hidden,
    onState: (state, timings) => this.#changed(state, timings),
    onTrack: (event) => this.#attach(event),
    onSample: (sample, quiet) => this.#sampled(sample, quiet),
    onClose: () => this.#freeze(),
  });
  #lastProblem: Problem | null = null;
  #countdown: ReturnType<typeof setInterval> | null = null;
  #lastBytes: { at: number; bytes: number } | null = null;
  #resume = false;
  #session: WhepSession | null = null;
  /** What the viewer chose, for this attempt and later ones; null: by what the link carries. */
  #quality: string | null = null;

  constructor() {
    super();
    const sheet = new CSSStyleSheet(); // a constructed sheet: inline styles are forbidden under default-src 'self'
    sheet.replaceSync(shadowCss);
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [sheet];
    root.append(this.#video, this.#still, this.#bar, this.#idle, this.#connecting, this.#problem, this.#spoken);
    this.#startButton.addEventListener("click", () => this.play());
    this.#againButton.addEventListener("click", () => this.play());
    this.#stopButton.addEventListener("click", () => this.stop());
    this.#fullButton.addEventListener("click", () => this.#toggleFullscreen());
    this.#video.addEventListener("dblclick", () => this.#toggleFullscreen());
    this.#soundButton.addEventListener("click", () => this.#setMuted(!this.#video.muted));
    this.#qualitySelect.addEventListener("change", () => void this.#choose(this.#qualitySelect.value || null));
    this.#qualitySelect.addEventListener("pointerdown", () => void this.#offerQualities());
    this.#setMuted(true);
    this.#show(this.#watcher.state);
  }

  /** Milliseconds since the present attempt began. */
  get timings(): Timings {
    return this.#watcher.timings;
  }

  get state(): State["name"] {
    return this.#watcher.state.name;
  }

  play(): void {
    if (!this.getAttribute("name")) return;
    this.#watcher.play();
  }

  stop(): void {
    this.#watcher.stop();
    this.#video.srcObject = null;
    this.#still.hidden = true;
  }

  connectedCallback(): void {
    this.dataset["state"] = this.state;
    addEventListener("online", this.#nudge);
    addEventListener("pagehide", this.#leave);
    addEventListener("pageshow", this.#comeBack);
    document.addEventListener("visibilitychange", this.#nudge);
    if (this.hasAttribute("autoplay")) this.play();
  }

  disconnectedCallback(): void {
    removeEventListener("online", this.#nudge);
    removeEventListener("pagehide", this.#leave);
    removeEventListener("pageshow", this.#comeBack);
    document.removeEventListener("visibilitychange", this.#nudge);
    this.stop();
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after || !this.isConnected) return;
    if (name !== "audio") this.#quality = null; // that of another camera
    if (this.state === "idle") return;
    this.stop();
    this.play();
  }

  readonly #nudge = (): void => {
    if (navigator.onLine && !document.hidden) this.#watcher.nudge();
  };

  readonly #leave = (): void => {
    this.#resume = this.state !== "idle";
    this.stop();
  };

  /** A page taken out of the back/forward cache goes on where it was. */
  readonly #comeBack = (event: PageTransitionEvent): void => {
    if (event.persisted && this.#resume) this.play();
  };

  #open(events: ConstructorParameters<typeof WhepSession>[1]): WhepSession {
    const base = new URL(this.getAttribute("base") ?? "./", document.baseURI).href;
    const camera = { namespace: this.getAttribute("namespace") ?? "default", name: this.getAttribute("name") ?? "" };
    const endpoint = new URL(whepPath(camera.namespace, camera.name), base).href;
    const query = this.#quality === null ? "" : `?profile=${encodeURIComponent(this.#quality)}`;
    const token: TokenProvider = () => (this.tokenProvider ?? SightlinePlayer.tokenProvider)();
    const api = new Api({ base, token, fetch: browserFetch });
    const ask = () => api.iceConfig(camera).catch(() => discoverIceServers({ token, fetch: browserFetch }, endpoint));
    this.#session = new WhepSession(
      {
        endpoint: endpoint + query,
        audio: this.hasAttribute("audio"),
        token,
        fetch: browserFetch,
        ice: () => iceConfigs.get(endpoint, ask),
        createPeer: (configuration) => new RTCPeerConnection(configuration),
        delay: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      },
      events,
    );
    return this.#session;
  }

  /** The qualities, if there is a choice. A failure to ask costs the choice, not the picture. */
  async #offerQualities(): Promise<void> {
    const session = this.#session;
    const found = await session?.qualities().catch(() => null);
    if (session === this.#session) this.#showQualities(found ?? null);
  }

  async #choose(quality: string | null): Promise<void> {
    const session = this.#session;
    this.#qualitySelect.disabled = true;
    try {
      const found = (await session?.select(quality)) ?? null;
      this.#quality = quality;
      if (session === this.#session) this.#showQualities(found);
    } catch {
      await this.#offerQualities(); // shows what is still played
    } finally {
      this.#qualitySelect.disabled = false;
    }
  }

  #showQualities(found: Qualities | null): void {
    const list = found?.list ?? [];
    this.#qualitySelect.hidden = found === null || list.length < 2;
    if (found === null) return;
    const automatic = h("option", { value: "", selected: found.automatic }, "Auto");
    const options = list.map((quality) => {
      const selected = !found.automatic && quality.name === found.selected;
      return h("option", { value: quality.name, selected }, qualityLabel(quality));
    });
    this.#qualitySelect.replaceChildren(automatic, ...options);
  }

  #attach(event: RTCTrackEvent): void {
    const { receiver, track } = event;
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0; // as low as the path allows; it still adapts
    if (track.kind === "audio") {
      // Comes after the picture, in the order of the offer, and only where the camera has sound.
      (this.#video.srcObject as MediaStream | null)?.addTrack(track);
      this.#soundButton.hidden = false;
      return;
    }
    this.#soundButton.hidden = true;
    const stream = new MediaStream([track]);
    this.#video.srcObject = stream;
    this.#video.requestVideoFrameCallback?.(() => {
      if (this.#video.srcObject === stream) this.#watcher.frame();
    });
    void start(this.#video, () => this.#setMuted(true)).then((began) => {
      if (!began && this.#video.srcObject === stream) this.#watcher.fail(localProblem("autoplay-blocked"));
    });
  }

  #changed(state: State, timings: Timings): void {
    this.#show(state);
    if (state.name === "playing") void this.#offerQualities();
    else if (state.name === "failed" && state.problem.code === "profile-not-found" && this.#quality !== null) {
      this.#quality = null; // taken out of the camera: any other will do
      queueMicrotask(() => this.play());
    }
    const problem = state.name === "failed" ? state.problem : null;
    const retryAt = state.name === "failed" ? state.retryAt : null;
    const at = performance.now();
    const detail: StateDetail = {
      state: state.name,
      at,
      problem,
      failures: state.name === "idle" ? 0 : state.failures,
      retryInMs: retryAt === null ? null : Math.max(0, retryAt - at),
      timings,
    };
    this.dispatchEvent(new CustomEvent<StateDetail>("sightline-state", { bubbles: true, composed: true, detail }));
  }

  /** The agent is there, the camera is not: the last picture stays, under words. */
  #showQuiet(quiet: boolean): void {
    if (quiet === this.hasAttribute("data-quiet")) return;
    this.toggleAttribute("data-quiet", quiet);
    this.#connecting.hidden = !quiet;
    const words = quiet ? "The camera sends nothing. Waiting for it…" : "Playing";
    setText(this.#hint, words);
    setText(this.#spoken, words);
  }

  #show(state: State): void {
    if (this.#countdown !== null) clearInterval(this.#countdown);
    this.#countdown = null;
    if (this.isConnected) this.dataset["state"] = state.name;
    delete this.dataset["reason"];
    delete this.dataset["quiet"];
    // A retry by itself keeps the words on the screen: changing them twice a second helps nobody.
    const trying = state.name === "connecting" && state.failures > 0 && this.#lastProblem !== null;
    this.#idle.hidden = state.name !== "idle";
    this.#connecting.hidden = state.name !== "connecting" || trying;
    this.#problem.hidden = state.name !== "failed" && !trying;
    this.#bar.hidden = state.name !== "playing";
    switch (state.name) {
      case "failed":
        return this.#showProblem(state.problem, state.retryAt);
      case "connecting":
        if (trying) return this.#showTrying();
        setText(this.#hint, state.brokeAt === null ? "Connecting…" : "Reconnecting…");
        return setText(this.#spoken, this.#hint.textContent ?? "");
      case "playing":
        this.#lastProblem = null;
        this.#still.hidden = true;
        return setText(this.#spoken, "Playing");
      case "idle":
        this.#lastProblem = null;
        return setText(this.#spoken, "");
    }
  }

  #showProblem(problem: Problem, retryAt: number | null): void {
    this.#lastProblem = problem;
    this.dataset["reason"] = problemTag(problem);
    setText(this.#title, problem.title);
    setText(this.#detail, problem.detail);
    setText(this.#tag, problemTag(problem));
    setText(this.#spoken, `${problem.title}. ${problem.detail}`);
    setText(this.#againButton, retryAt === null ? "Try again" : "Try now");
    this.#count.hidden = retryAt === null;
    this.#againButton.disabled = false;
    if (retryAt === null) return;
    const count = (): void => {
      const seconds = Math.max(1, Math.ceil((retryAt - performance.now()) / 1000));
      setText(this.#count, `Next try in ${seconds} s`);
    };
    count();
    this.#countdown = setInterval(count, 250);
  }

  #showTrying(): void {
    this.#count.hidden = false;
    this.#againButton.disabled = true;
    setText(this.#count, "Trying again…");
  }

  /** Keeps the last picture behind the words while a stream is being recovered; a closed connection shows black. */
  #freeze(): void {
    this.#lastBytes = null;
    setText(this.#facts, "");
    const { videoWidth, videoHeight } = this.#video;
    const state = this.#watcher.state;
    const recovering = state.name === "connecting" || (state.name === "failed" && state.retryAt !== null);
    if (!recovering || videoWidth === 0 || this.#bar.hidden) return;
    const scale = Math.min(1, 960 / videoWidth);
    this.#still.width = Math.round(videoWidth * scale);
    this.#still.height = Math.round(videoHeight * scale);
    this.#still.getContext("2d")?.drawImage(this.#video, 0, 0, this.#still.width, this.#still.height);
    this.#still.hidden = false;
  }

  #sampled(sample: Sample | null, quiet: boolean): void {
    if (this.state === "playing") this.#showQuiet(quiet);
    const at = performance.now();
    const last = this.#lastBytes;
    this.#lastBytes = sample === null ? null : { at, bytes: sample.bytes };
    if (sample === null) return setText(this.#facts, "");
    const mbits = last === null ? 0 : ((sample.bytes - last.bytes) * 8) / 1000 / (at - last.at);
    setText(this.#facts, [formatPicture(sample), mbits > 0 ? `${mbits.toFixed(1)} Mbit/s` : ""].filter(Boolean).join(" · "));
  }

  #setMuted(muted: boolean): void {
    this.#video.muted = muted;
    const label = muted ? "Sound on" : "Sound off";
    this.#soundButton.replaceChildren(icon(muted ? "muted" : "sound"));
    this.#soundButton.title = label;
    this.#soundButton.setAttribute("aria-label", label);
  }

  #toggleFullscreen(): void {
    const change = document.fullscreenElement === null ? this.requestFullscreen() : document.exitFullscreen();
    change.catch(() => {}); // refused by the browser or the embedding page: nothing is lost
  }
}

if (!customElements.get("sightline-player")) customElements.define("sightline-player", SightlinePlayer);

declare global {
  interface HTMLElementTagNameMap {
    "sightline-player": SightlinePlayer;
  }
}
