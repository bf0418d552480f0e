/** One camera on the wall: its picture, and what there is to know about it. Updated in place, so a player plays on. */
import type { CameraSummary } from "./api";
import { h, icon, setText } from "./dom";
import { formatFragment } from "./fragment";
import type { SightlinePlayer } from "./player";
import { cameraMessage, cameraWording, formatPicture, formatViewers, TROUBLED } from "./words";

/** Texts about a camera that the tile and the watch view share. */
export class CameraFacts {
  readonly chip = h("span", { className: "chip" });
  readonly path = h("span", { className: "path" });
  readonly message = h("p", { className: "message" });
  readonly #count = h("span");
  readonly viewers = h("span", { className: "viewers" }, icon("viewers"), this.#count);
  readonly picture = h("span");

  update(camera: CameraSummary): void {
    const wording = cameraWording(camera);
    setText(this.chip, wording.text);
    this.chip.className = `chip tone-${wording.tone}`;
    setText(this.path, `${camera.namespace}/${camera.name}`);
    setText(this.message, cameraMessage(camera));
    this.message.classList.toggle("calm", !TROUBLED.has(wording.tone));
    this.message.hidden = this.message.textContent === "";
    setText(this.#count, String(camera.viewers));
    this.viewers.title = formatViewers(camera.viewers);
    this.#count.setAttribute("aria-label", this.viewers.title);
    const { videoCodec, width, height, fps } = camera.source ?? {};
    setText(this.picture, formatPicture({ codec: videoCodec, width, height, fps }));
  }
}

export class Tile {
  readonly element: HTMLElement;
  readonly player: SightlinePlayer;
  readonly #facts = new CameraFacts();
  #troubled = false;
  readonly #link: HTMLAnchorElement;
  readonly #locked = h("div", { className: "locked" }, icon("lock"), h("span", {}, "You may not watch this camera"));

  constructor(camera: CameraSummary) {
    this.player = h("sightline-player", { attrs: { namespace: camera.namespace, name: camera.name } });
    this.#link = h("a", { href: formatFragment(camera) });
    this.element = h(
      "article",
      { className: "tile" },
      h("div", { className: "picture" }, this.player, this.#locked),
      h(
        "div",
        { className: "caption" },
        h("div", { className: "line" }, h("h2", {}, this.#link), this.#facts.chip),
        h("div", { className: "line quiet" }, this.#facts.path),
        this.#facts.message,
        h("div", { className: "line quiet last" }, this.#facts.picture, this.#facts.viewers),
      ),
    );
    this.update(camera);
  }

  /** Allowed, and with some hope of a picture. */
  get watchable(): boolean {
    return !this.player.hidden && !this.#troubled;
  }

  update(camera: CameraSummary): void {
    const title = camera.title || camera.name;
    setText(this.#link, title);
    this.#link.title = camera.description || title;
    this.player.setAttribute("aria-label", `Player: ${title}`);
    this.#facts.update(camera);
    this.#troubled = TROUBLED.has(cameraWording(camera).tone);
    const allowed = camera.rights.includes("View");
    this.player.hidden = !allowed;
    this.#locked.hidden = allowed;
    if (!allowed) this.player.stop();
  }
}
