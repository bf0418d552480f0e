/** One camera, big: `#watch=NAMESPACE/NAME`. */
import type { Api, CameraSummary } from "./api";
import { browserClock } from "./clock";
import { h, icon, setText } from "./dom";
import { formatFragment, type CameraKey } from "./fragment";
import { Poller } from "./poller";
import { CameraFacts } from "./tile";
import { POLL_MS } from "./wall";

export class Watch {
  readonly element: HTMLElement;
  readonly #facts = new CameraFacts();
  readonly #title: HTMLElement;
  readonly #description = h("p", { className: "description" });
  readonly #poller: Poller<CameraSummary | null>;

  constructor(api: Api, key: CameraKey, onError: (error: unknown) => void) {
    const player = h("sightline-player", {
      attrs: { namespace: key.namespace, name: key.name, autoplay: "", audio: "", "aria-label": `Player: ${key.name}` },
    });
    this.#title = h("h1", { tabIndex: -1 }, key.name);
    this.element = h(
      "section",
      { className: "watch", attrs: { "aria-label": "Camera" } },
      h("a", { className: "back", href: formatFragment(null) }, icon("back"), "All cameras"),
      h("div", { className: "stage" }, player),
      h("div", { className: "line" }, this.#title, this.#facts.chip),
      h("div", { className: "line quiet" }, this.#facts.path, h("span", { className: "numbers" }, this.#facts.picture, this.#facts.viewers)),
      this.#facts.message,
      this.#description,
    );
    setText(this.#facts.path, `${key.namespace}/${key.name}`);
    this.#facts.message.hidden = true;
    this.#facts.chip.hidden = true;
    this.#description.hidden = true;
    this.#poller = new Poller(
      {
        ask: () => api.camera(key),
        onAnswer: (camera) => this.#update(camera),
        onError,
        hidden: () => document.hidden,
        clock: browserClock,
      },
      POLL_MS,
    );
  }

  start(): void {
    document.addEventListener("visibilitychange", this.#seen);
    this.#poller.start();
    this.#title.focus({ preventScroll: true });
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.#seen);
    this.#poller.stop();
  }

  readonly #seen = (): void => {
    if (!document.hidden) this.#poller.now();
  };

  #update(camera: CameraSummary | null): void {
    this.#facts.chip.hidden = camera === null;
    if (camera === null) return; // the player says what is wrong
    setText(this.#title, camera.title || camera.name);
    document.title = `${camera.title || camera.name} · Sightline`;
    this.#facts.update(camera);
    setText(this.#description, camera.description ?? "");
    this.#description.hidden = !camera.description;
  }
}
