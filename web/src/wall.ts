/** The camera wall: a grid of tiles, kept up to date by polling while the page is visible. */
import type { Api, CameraList, CameraSummary } from "./api";
import { browserClock } from "./clock";
import { h, setText } from "./dom";
import { Poller } from "./poller";
import { problemOfError } from "./problem";
import { Tile } from "./tile";

export const POLL_MS = 5000;
/** More players at once than this melt laptops. */
const PLAY_ALL = 16;

export class Wall {
  readonly element: HTMLElement;
  readonly #search = h("input", { type: "search", placeholder: "Search cameras", attrs: { "aria-label": "Search cameras" } });
  readonly #liveOnly = h("input", { type: "checkbox", id: "live-only" });
  readonly #playAll = h("button", { type: "button", className: "secondary" }, "Play all");
  readonly #summary = h("p", { className: "quiet summary", attrs: { role: "status" } });
  readonly #trouble = h("p", { className: "trouble", attrs: { role: "status" } });
  readonly #grid = h("div", { className: "grid" });
  readonly #emptyTitle = h("h2");
  readonly #emptyText = h("p", { className: "quiet" });
  readonly #empty = h("div", { className: "empty" }, this.#emptyTitle, this.#emptyText);
  readonly #tiles = new Map<string, Tile>();
  readonly #poller: Poller<CameraList>;
  readonly #onError: (error: unknown) => void;
  #typing: ReturnType<typeof setTimeout> | null = null;

  /** `onError` hears each failed poll; it may take the wall off the page. */
  constructor(api: Api, onError: (error: unknown) => void) {
    this.#onError = onError;
    this.#poller = new Poller(
      {
        ask: () => api.cameras({ q: this.#search.value.trim(), live: this.#liveOnly.checked }),
        onAnswer: (answer) => this.#update(answer),
        onError: (error) => this.#failed(error),
        hidden: () => document.hidden,
        clock: browserClock,
      },
      POLL_MS,
    );
    this.element = h(
      "section",
      { className: "wall", attrs: { "aria-label": "Cameras" } },
      h(
        "div",
        { className: "tools" },
        this.#summary,
        this.#search,
        h("label", { className: "toggle", htmlFor: "live-only" }, this.#liveOnly, "Live only"),
        this.#playAll,
      ),
      this.#trouble,
      this.#grid,
      this.#empty,
    );
    this.#playAll.title = `Plays the first ${PLAY_ALL} cameras that have a picture`;
    this.#empty.hidden = true;
    this.#trouble.hidden = true;
    this.#playAll.hidden = true;
    setText(this.#summary, "Looking for cameras…");
    this.#search.addEventListener("input", () => {
      if (this.#typing !== null) clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#poller.now(), 250);
    });
    this.#liveOnly.addEventListener("change", () => this.#poller.now());
    this.#playAll.addEventListener("click", () => this.#togglePlayAll());
    this.#grid.addEventListener("sightline-state", () => this.#showPlayAll());
  }

  start(): void {
    document.addEventListener("visibilitychange", this.#seen);
    this.#poller.start();
  }

  /** Stops asking and playing; the tiles stay for the way back. */
  stop(): void {
    document.removeEventListener("visibilitychange", this.#seen);
    this.#poller.stop();
    for (const tile of this.#tiles.values()) tile.player.stop();
  }

  readonly #seen = (): void => {
    if (!document.hidden) this.#poller.now();
  };

  #update({ items, complete }: CameraList): void {
    this.#trouble.hidden = true;
    const cameras = [...items].sort(byTitle);
    const keys = new Set(cameras.map(keyOf));
    for (const [key, tile] of this.#tiles) {
      if (keys.has(key)) continue;
      tile.element.remove();
      this.#tiles.delete(key);
    }
    // Tiles that are there are never moved: moving an element out and in would stop its player.
    let before: Element | null = this.#grid.firstElementChild;
    for (const camera of cameras) {
      const tile = this.#tiles.get(keyOf(camera));
      if (tile !== undefined) {
        tile.update(camera);
        if (tile.element === before) before = before.nextElementSibling;
        continue;
      }
      const added = new Tile(camera);
      this.#tiles.set(keyOf(camera), added);
      this.#grid.insertBefore(added.element, before);
    }
    this.#showSummary(cameras, complete);
    this.#showPlayAll();
  }

  #showSummary(cameras: readonly CameraSummary[], complete: boolean): void {
    const filtered = this.#search.value.trim() !== "" || this.#liveOnly.checked;
    const live = cameras.filter((camera) => camera.live).length;
    const count = cameras.length === 1 ? "1 camera" : `${cameras.length}${complete ? "" : "+"} cameras`;
    setText(this.#summary, cameras.length === 0 ? "No cameras" : `${count}, ${live} live`);
    this.#empty.hidden = cameras.length > 0;
    setText(this.#emptyTitle, filtered ? "No camera matches" : "No cameras yet");
    setText(
      this.#emptyText,
      filtered
        ? "Try another word, or look at all cameras again."
        : "Cameras that you may see appear here by themselves, as soon as somebody describes one with kubectl or Helm.",
    );
  }

  #failed(error: unknown): void {
    const problem = problemOfError(error);
    setText(this.#trouble, `This list may be out of date. ${problem.title}: ${problem.detail} Trying again.`);
    this.#trouble.hidden = false;
    if (this.#tiles.size === 0) setText(this.#summary, "");
    this.#onError(error);
  }

  #active(): Tile[] {
    return [...this.#tiles.values()].filter((tile) => tile.player.state !== "idle");
  }

  #togglePlayAll(): void {
    const active = this.#active();
    if (active.length > 0) {
      for (const tile of active) tile.player.stop();
      return;
    }
    const order = [...this.#grid.children];
    const tiles = [...this.#tiles.values()].filter((tile) => tile.watchable);
    tiles.sort((a, b) => order.indexOf(a.element) - order.indexOf(b.element));
    for (const tile of tiles.slice(0, PLAY_ALL)) tile.player.play();
  }

  #showPlayAll(): void {
    this.#playAll.hidden = this.#tiles.size === 0;
    setText(this.#playAll, this.#active().length > 0 ? "Stop all" : "Play all");
  }
}

function keyOf(camera: CameraSummary): string {
  return `${camera.namespace}/${camera.name}`;
}

function byTitle(a: CameraSummary, b: CameraSummary): number {
  return (a.title || a.name).localeCompare(b.title || b.name) || keyOf(a).localeCompare(keyOf(b));
}
